"""A small server that speaks S3 (path-style: GET, HEAD, PUT, LIST, multipart uploads), with faults on demand."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class S3Server(ThreadingHTTPServer):
    """Keeps objects in memory.

    Args:
        fault: is called with (method, key) before each request; returns "" for none, ``cut`` to close the connection after
            half of the bytes, or ``error`` to answer 403, which clients do not repeat.
    """

    daemon_threads = True

    def __init__(self, fault=lambda method, key: ""):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault = fault
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[tuple[str, str]] = []
        self.changing = threading.Lock()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Say nothing about connections that were closed on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: S3Server

    def log_message(self, *_):
        pass

    def _handle(self):
        parts = urlsplit(self.path)
        self.key, self.query = unquote(parts.path).lstrip("/"), parse_qs(parts.query, keep_blank_values=True)
        body = self._body()
        with self.server.changing:
            self.server.requests.append((self.command, self.key))
            fault = self.server.fault(self.command, self.key)
        if fault == "error":
            return self._answer(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
        if fault == "cut" and self.command != "GET":
            self.close_connection = True
            return self.connection.close()
        return getattr(self, f"_{self.command.lower()}")(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 (names of http.server)

    def _body(self):
        """Return the bytes that were sent, without the frames of HTTP's and of S3's chunks."""
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            data = b"".join(iter(self._chunk, b""))
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return data
        plain = b""
        while length := int(data.partition(b"\r\n")[0].split(b";")[0], 16):
            data = data.partition(b"\r\n")[2]
            plain, data = plain + data[:length], data[length + 2 :]
        return plain

    def _chunk(self):
        data = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return data

    def _answer(self, status, body=b"", headers=(), cut=False):
        self.send_response(status)
        for name, value in (("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def _head(self, _, fault):
        data = self.server.objects.get(self.key)
        if data is None:
            return self._answer(200 if "/" not in self.key.rstrip("/") else 404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')  # noqa: S324 (S3's own)
        return self.end_headers()

    def _get(self, _, fault):
        if "list-type" in self.query:
            return self._list()
        data = self.server.objects.get(self.key)
        if data is None:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            part = data[int(first) : int(last) + 1 if last else None]
            place = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
            return self._answer(206, part, [("Content-Range", place)], cut=fault == "cut")
        return self._answer(200, data, cut=fault == "cut")

    def _list(self):
        bucket = self.key.rstrip("/")
        prefix, delimiter = (self.query.get(name, [""])[0] for name in ("prefix", "delimiter"))
        keys, folders = [], set()
        for name in sorted(self.server.objects):
            rest = name.removeprefix(f"{bucket}/")
            if rest == name or not rest.startswith(prefix):
                continue
            head, slash, _ = rest[len(prefix) :].partition(delimiter) if delimiter else (rest, "", "")
            if slash:
                folders.add(f"{prefix}{head}{slash}")
            else:
                keys.append((rest, len(self.server.objects[name])))
        contents = "".join(
            f"<Contents><Key>{escape(k)}</Key><Size>{size}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for k, size in keys
        )
        common = "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in sorted(folders))
        return self._answer(
            200,
            f"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>{len(keys)}</KeyCount>{contents}{common}"
            "</ListBucketResult>".encode(),
        )

    def _put(self, body, fault):
        if "partNumber" in self.query:
            self.server.uploads[self.query["uploadId"][0]][int(self.query["partNumber"][0])] = body
        elif "/" in self.key.rstrip("/"):
            self.server.objects[self.key] = body
        return self._answer(200, headers=[("ETag", f'"{hashlib.md5(body).hexdigest()}"')])  # noqa: S324

    def _post(self, body, fault):
        if "uploads" in self.query:
            name = f"upload{len(self.server.uploads)}"
            self.server.uploads[name] = {}
            text = f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
            return self._answer(200, text.encode())
        if "uploadId" in self.query:
            parts = self.server.uploads.pop(self.query["uploadId"][0])
            self.server.objects[self.key] = b"".join(parts[number] for number in sorted(parts))
            return self._answer(200, b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
        return self._answer(400)

    def _delete(self, body, fault):
        self.server.objects.pop(self.key, None)
        return self._answer(204)
