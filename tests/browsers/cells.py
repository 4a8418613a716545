"""What pages do in `test_differential`: JavaScript for a page whose own functions `replying` has."""

from __future__ import annotations

__all__ = ["FETCHED", "KNOWN", "LOADED"]

# The value of each is what the page sees.
FETCHED = {
    "text": "told(fetch(at('', {body: 'hello', h: ['X-One: 1']})))",
    "repeated": "told(fetch(at('', {h: ['X-One: 1', 'X-One: 2', 'X-Two: a,b']})))",
    "latin-1": "told(fetch(at('', {h: ['X-One: caf\\u00e9']})))",
    "no-content": "told(fetch(at('', {status: 204})))",
    "not-modified": "told(fetch(at('', {status: 304}), {headers: {'if-none-match': 'x'}}))",
    "status-599": "told(fetch(at('', {status: 599, body: 'odd'})))",
    "head": "told(fetch(at('', {h: ['X-One: 1']}), {method: 'HEAD'}))",
    "put": "told(fetch('/echo', {method: 'PUT', body: 'put'}))",
    "patch": "told(fetch('/echo', {method: 'PATCH', body: 'patched'}))",
    "delete": "told(fetch('/echo', {method: 'DELETE'}))",
    "options": "told(fetch('/echo', {method: 'OPTIONS'}))",
    "own-method": "told(fetch('/echo', {method: 'PROPFIND', body: 'x'}))",
    "own-header": "told(fetch('/r', {headers: {'X-Own': 'own', Authorization: 'Bearer x'}}))",
    "empty-post": "told(fetch('/echo', {method: 'POST'}))",
    "urlencoded": "told(fetch('/echo', {method: 'POST', body: new URLSearchParams({a: '\\u20ac', b: ' '})}))",
    "json": "told(fetch('/echo', {method: 'POST', body: '{}', headers: {'content-type': 'application/json'}}))",
    "bytes": "fetch('/echo', {method: 'POST', body: new Uint8Array([0, 255, 13, 10])}).then(async r => [...await r.bytes()])",
    "blob": "fetch('/echo', {method: 'POST', body: new Blob(['a', new Uint8Array([0])], {type: 'x/y'})}).then(r => r.text())",
    "binary": "fetch('/binary').then(async r => [...new Uint8Array(await r.arrayBuffer())])",
    "large": "fetch('/binary?times=8192').then(async r => (await r.arrayBuffer()).byteLength)",
    "large-post": "fetch('/echo', {method: 'POST', body: 'x'.repeat(3000000)}).then(async r => (await r.text()).length)",
    "streamed": "told(fetch('/stream'))",
    "query": "told(fetch('/r/a%20b;c/%C3%A9?x=%2F&y=a b&status=200#part'))",
    "empty-query": "told(fetch('/r?'))",
    "dots": "told(fetch('/a/../r/./x'))",
    "xhr": "new Promise(ok => { const x = new XMLHttpRequest(); x.open('GET', at('', {h: ['X-A: 1', 'X-A: 2']}));"
    " x.onload = () => ok([x.status, x.statusText, x.getResponseHeader('x-a')]); x.send() })",
    "sync-xhr": "(() => { const x = new XMLHttpRequest(); x.open('GET', at('', {body: 'sync'}), false); x.send(); return x.responseText })()",
    "beacon": "(async () => { navigator.sendBeacon('/echo', 'b'); await told(fetch('/json')) })()",
    "worker": "new Promise(ok => { const w = new Worker(URL.createObjectURL(new Blob([\"fetch('http://a.test/r?body=w').then("
    'r => r.text()).then(postMessage)"]))); w.onmessage = e => ok(e.data) })',
    "image": "new Promise(ok => { const i = new Image(); i.onload = () => ok([i.naturalWidth]); i.onerror = () => ok('error');"
    " i.src = at('', {h: ['Content-Type: image/svg+xml'], body: '<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"7\" height=\"5\"/>'}) })",
    "not-a-script": "new Promise(ok => { const s = document.createElement('script'); s.onload = () => ok('ran'); s.onerror = () => ok('error');"
    " s.src = at('', {h: ['Content-Type: text/plain', 'X-Content-Type-Options: nosniff'], body: '1'}); document.head.append(s) })",
    "module": "import(at('', {h: ['Content-Type: text/javascript'], body: 'export default 5'})).then(m => m.default)",
    # Redirects.
    **{
        f"redirect-{status}-{method}": f"told(fetch(at('', {{status: {status}, h: ['Location: /echo#x']}}), {{method: '{method}'"
        + (", body: 'b'" if method in ("POST", "PUT") else "")
        + "}))"
        for status in (301, 302, 303, 307, 308)
        for method in ("GET", "POST", "PUT", "HEAD")
    },
    "redirect-manual": "told(fetch(at('', {status: 302, h: ['Location: /r']}), {redirect: 'manual'}))",
    "redirect-error": "told(fetch(at('', {status: 302, h: ['Location: /r']}), {redirect: 'error'}))",
    "redirect-loop": "told(fetch(at('', {status: 302, h: ['Location: ?status=302&h=Location: ?']})))",
    "redirect-nowhere": "told(fetch(at('', {status: 302, body: 'no location'})))",
    "redirect-cookie": "told(fetch(at('', {status: 302, h: ['Location: /json', 'Set-Cookie: a=1', 'Set-Cookie: b=2']})))",
    "redirect-away": "told(fetch(at('', {status: 302, h: ['Location: http://b.test/r']})))",
    "redirect-away-cors": "told(fetch(at('', {status: 302, h: ['Location: ' + at('b.test', {h: ['Access-Control-Allow-Origin: http://a.test']})]})))",
    # Cookies.
    "cookies": "(async () => { await fetch(at('', {h: ['Set-Cookie: a=1; Path=/', 'Set-Cookie: b=2; Path=/; HttpOnly',"
    " 'Set-Cookie: c=3; Path=/else', 'Set-Cookie: d=4; Secure', 'Set-Cookie: e=5; SameSite=Strict; Max-Age=1000',"
    " 'Set-Cookie: f=6; SameSite=None', 'Set-Cookie: g=7; Domain=b.test', 'Set-Cookie: __Host-h=8']}));"
    " await fetch('/json'); return document.cookie })()",
    "cookie-deleted": "(async () => { document.cookie = 'a=1'; await fetch('/json'); await fetch(at('', {h: ['Set-Cookie: a=; Max-Age=0']}));"
    " await fetch('/json'); return document.cookie })()",
    "cookie-omitted": "(async () => { document.cookie = 'a=1'; return told(fetch('/json', {credentials: 'omit'})) })()",
    "cookie-not-stored": "(async () => { await fetch(at('', {h: ['Set-Cookie: a=1']}), {credentials: 'omit'}); return document.cookie })()",
    "cookie-cross-site": "(async () => { await told(fetch(at('b.test', {h: ['Set-Cookie: a=1', 'Access-Control-Allow-Origin: http://a.test',"
    " 'Access-Control-Allow-Credentials: true']}), {credentials: 'include'})); return told(fetch(at('b.test', {h: ["
    "'Access-Control-Allow-Origin: http://a.test', 'Access-Control-Allow-Credentials: true']}), {credentials: 'include'})) })()",
    "cookie-same-site": "(async () => { await told(fetch(at('sub.a.test', {h: ['Set-Cookie: s=1; SameSite=Strict', 'Set-Cookie: t=1; Domain=a.test',"
    " 'Access-Control-Allow-Origin: http://a.test', 'Access-Control-Allow-Credentials: true']}), {credentials: 'include'}));"
    " await fetch('/json'); return told(fetch(at('sub.a.test'), {credentials: 'include', mode: 'no-cors'})) })()",
    # CORS.
    "cors-refused": "told(fetch(at('b.test')))",
    "cors-allowed": "told(fetch(at('b.test', {h: ['Access-Control-Allow-Origin: *', 'X-One: 1', 'Access-Control-Expose-Headers: x-one']})))",
    "cors-hidden-header": "told(fetch(at('b.test', {h: ['Access-Control-Allow-Origin: *', 'X-One: 1']})))",
    "cors-other-port": "told(fetch(at('a.test:81')))",
    "cors-wildcard-credentials": "told(fetch(at('b.test', {h: ['Access-Control-Allow-Origin: *']}), {credentials: 'include'}))",
    "cors-opaque": "told(fetch(at('b.test', {body: 'x'}), {mode: 'no-cors'}))",
    "preflight-refused": "told(fetch(at('b.test', {h: ['Access-Control-Allow-Origin: *']}), {method: 'PUT', body: 'x'}))",
    "preflight-allowed": "told(fetch(at('b.test', {h: ['Access-Control-Allow-Origin: *', 'Access-Control-Allow-Methods: PUT']}), {method: 'PUT', body: 'x'}))",
    "preflight-header": "told(fetch(at('b.test', {h: ['Access-Control-Allow-Origin: *']}), {headers: {'X-Own': '1'}}))",
    "preflight-header-allowed": "told(fetch(at('b.test', {h: ['Access-Control-Allow-Origin: *', 'Access-Control-Allow-Headers: X-Own']}), {headers: {'X-Own': '1'}}))",
    "preflight-status": "told(fetch(at('b.test', {status: 404, h: ['Access-Control-Allow-Origin: *', 'Access-Control-Allow-Methods: PUT']}), {method: 'PUT'}))",
    # Encodings, and what goes wrong.
    "gzip": "told(fetch('/packed?h=X-One: 1'))",
    "aborted": "(async () => { const c = new AbortController(); const asked = told(fetch('/hang?it', {signal: c.signal}));"
    " await fetch('/json'); c.abort(); return asked })()",
    "event-source": "new Promise(ok => { const s = new EventSource('/stream?h=Content-Type: text/event-stream'); s.onopen = () => { s.close(); ok('open') }; s.onerror = () => { s.close(); ok('error') } })",
    "unknown-scheme": "told(fetch('ftp://a.test/'))",
    # WebSockets.
    "websocket": "chat('/ws', ['text', '\\u20ac', new Uint8Array([0, 255])])",
    "websocket-closed-by-page": "chat('/ws', ['x'], w => w.close(4000, 'bye'))",
    "websocket-closed-without-code": "chat('/ws', ['x'], w => w.close())",
    "websocket-closed-by-app": "chat('/ws', ['x', 'leave'], w => 0)",
    "websocket-cookies": "(async () => { await fetch(at('', {h: ['Set-Cookie: a=1; HttpOnly', 'Set-Cookie: b=2; Path=/else']})); return chat('/ws', ['x']) })()",
    # Policies.
    "frame": "new Promise(ok => { const f = document.createElement('iframe'); f.onload = () => ok(f.contentDocument?.body.innerText ?? null);"
    " f.src = at('', {body: 'framed'}); document.body.append(f) })",
    "frame-denied": "new Promise(ok => { const f = document.createElement('iframe'); f.onload = () => ok(f.contentDocument?.body.innerText ?? null);"
    " f.src = at('', {h: ['X-Frame-Options: DENY'], body: 'framed'}); document.body.append(f) })",
    "keepalive": "told(fetch('/echo', {method: 'POST', body: 'k', keepalive: true}))",
}

# Each leads to another page.
LOADED = {
    "plain": "location = at('', {body: '<title>new</title>new'})",
    "redirect": "location = at('', {status: 302, h: ['Location: /r?body=there#part']})",
    "redirects": "location = at('', {status: 302, h: ['Location: ' + at('b.test', {status: 307, h: ['Location: http://a.test/r?body=back', 'Set-Cookie: on=way']})]})",
    "redirect-with-cookies": "location = at('', {status: 303, h: ['Location: /json', 'Set-Cookie: a=1', 'Set-Cookie: b=2; HttpOnly']})",
    "link-elsewhere": "(() => { document.cookie = 'a=1'; location = at('b.test', {body: 'b'}) })()",
    "no-referrer": "(() => { document.head.append(Object.assign(document.createElement('meta'), {name: 'referrer', content: 'no-referrer'})); location = '/json' })()",
    "form": "submit('/json')",
    "form-get": "submit('/json', 'get', {q: 'tea & \\u20ac'})",
    "form-plain": "submit('/echo', 'post', {a: 'x'}, 'text/plain')",
    "form-redirect-303": "submit(at('', {status: 303, h: ['Location: /json']}))",
    "form-redirect-302": "submit(at('', {status: 302, h: ['Location: /json']}))",
    "form-redirect-307": "submit(at('', {status: 307, h: ['Location: /json']}))",
    "form-elsewhere": "submit(at('b.test', {path: '/json'}))",
    "error": "location = at('', {status: 404, body: 'not there'})",
    "text": "location = at('', {h: ['Content-Type: text/plain'], body: '<b>text</b>'})",
    "charset": "location = at('', {h: ['Content-Type: text/html; charset=windows-1252'], body: '\\u00e9\\u0080'})",
    "csp": "location = at('', {h: [\"Content-Security-Policy: script-src 'none'\"], body: '<p>before</p><script>document.body.innerText=\"ran\"</script>'})",
    "refresh": "location = at('', {body: '<meta http-equiv=refresh content=\"0;url=/r?body=later\">'})",
    "refresh-header": "location = at('', {h: ['Refresh: 0;url=/r?body=later']})",
}


# What Chromium does below the place where requests are shown. socketless/docs/browsers.rst says so.
KNOWN = {
    "header-beyond-ascii": "told(fetch('/r', {headers: {'X-Own': 'caf\u00e9'}}))",
    "corp": "told(fetch(at('b.test', {h: ['Cross-Origin-Resource-Policy: same-origin']}), {mode: 'no-cors'}))",
    "fetch-metadata": "told(fetch('http://localhost/metadata?h=Access-Control-Allow-Origin: *'))",
    "password": "told(fetch('/secret'))",  # that of the context
    "worker-websocket": "new Promise(ok => { const w = new Worker(URL.createObjectURL(new Blob([\"const w = new WebSocket('ws://a.test/ws'); w.onopen = () => postMessage('open'); w.onclose = () => postMessage('closed')\"]))); w.onmessage = e => ok(e.data) })",
    "cache": "(async () => { for (const each of [1, 2]) await fetch(at('', {h: ['Cache-Control: max-age=1000']})) })()",
    "breaks-off": "(async () => { const r = await fetch('/breaks'); return [r.status, await r.text().catch(e => e.name)] })().catch(e => e.name)",
    "websocket-app-raises": "chat('/ws', ['raise'], w => 0)",
    "websocket-denied": "chat('/denied', [])",
    "websocket-subprotocol": "chat('/ws', ['x'], w => w.close(1000), ['second', 'first'])",
}
