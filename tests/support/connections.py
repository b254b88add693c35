"""What connections to the admin server say that keep it waiting: nothing, or half of something."""

TOKEN = "planted-admin-token-77c0"
"""The admin server's: without it no body is waited for."""

_FORM = (
    b"POST /fuse/release HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"
)

WORDS = {
    "silent": b"",
    "half a header": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: ",
    "half a body": _FORM + b"Content-Length: 10\r\n\r\nwatch",
    "half a chunk": _FORM + b"Transfer-Encoding: chunked\r\n\r\n20\r\nwatch",
}
