#!/usr/bin/env python3
"""What stands behind the door of web.sh: a web page on 8090, and two STUN servers on 3478 and 3479."""

import http.server
import socket
import struct
import threading

COOKIE = 0x2112A442
BINDING_REQUEST, BINDING_RESPONSE, XOR_MAPPED_ADDRESS = 0x0001, 0x0101, 0x0020


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>behind the door</title><p>in")


def stun(port):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("10.83.0.1", port))
    while True:
        request, (address, source_port) = server.recvfrom(2048)
        if len(request) < 20 or struct.unpack("!H", request[:2])[0] != BINDING_REQUEST:
            continue
        value = struct.unpack("!I", socket.inet_aton(address))[0] ^ COOKIE
        mapped = struct.pack("!HHBBHI", XOR_MAPPED_ADDRESS, 8, 0, 1, source_port ^ COOKIE >> 16, value)
        server.sendto(struct.pack("!HHI", BINDING_RESPONSE, len(mapped), COOKIE) + request[8:20] + mapped,
                      (address, source_port))


for port in (3478, 3479):
    threading.Thread(target=stun, args=(port,), daemon=True).start()
page = http.server.ThreadingHTTPServer(("10.83.0.1", 8090), Page)
print("ready", flush=True)
page.serve_forever()
