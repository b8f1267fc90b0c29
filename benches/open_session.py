"""Times how long a client waits for a session that is there: from its subscription to all of its snapshot.

Opens the session that changed last, a hundred times, each on a connection of its own. Standard library only.
"""

import base64
import json
import os
import socket
import statistics
import sys
import time
import urllib.parse


class WebSocket:
    """As much of RFC 6455 as a well-behaved server asks for."""

    def __init__(self, host, port, path):
        self.stream = socket.create_connection((host, port))
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        self.stream.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.reader = self.stream.makefile("rb")
        while self.reader.readline() not in (b"\r\n", b""):
            pass

    def send(self, frame):
        payload = json.dumps(frame).encode()
        assert len(payload) < 65536
        short = len(payload) < 126
        length = bytes([0x80 + len(payload)]) if short else b"\xfe" + len(payload).to_bytes(2, "big")
        # A mask of zeros leaves the payload as it is.
        self.stream.sendall(b"\x81" + length + bytes(4) + payload)

    def next(self):
        _, length = self.reader.read(2)
        if length >= 126:
            length = int.from_bytes(self.reader.read(2 if length == 126 else 8), "big")
        return self.reader.read(length)

    def next_of(self, kind):
        while True:
            frame = self.next()
            if f'"type":"{kind}"'.encode() in frame[:64]:
                return frame


url = urllib.parse.urlsplit(sys.argv[1])
backend = WebSocket(url.hostname, url.port, "/ws/backend-api")
backend.send({"type": "session_management", "message_id": "l", "data": {"action": "list", "limit": 1}})
session = json.loads(backend.next_of("reply"))["data"]["sessions"][0]
elapsed = []
for _ in range(100):
    frontend = WebSocket(url.hostname, url.port, "/ws/frontend-api")
    frontend.next_of("connection_established")
    began = time.perf_counter()
    frontend.send({"type": "subscribe", "topics": ["session:" + session["session_id"]]})
    snapshot = frontend.next_of("session_snapshot")
    elapsed.append((time.perf_counter() - began) * 1000)
    frontend.stream.close()
    assert json.loads(snapshot)["data"]["truncated"]
elapsed.sort()
print(json.dumps({"head": session["head"], "opened_ms": {"p50": statistics.median(elapsed), "p99": elapsed[98]}}))
