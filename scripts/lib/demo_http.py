"""The pods' programs in the demo: a server that says its name, and a client that counts who answered.

usage: demo_http.py serve NAME PORT           GET /client is answered with the client's address, all else with NAME
       demo_http.py ask URL COUNT [SECONDS]   COUNT requests, each on a connection of its own, spread over SECONDS;
                                              prints a line per server and its number of answers, failures as "failed"
"""

import collections
import http.server
import socket
import sys
import time
import urllib.request


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6  # and IPv4 with it
    request_queue_size = 128


def serve(name, port):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            client = self.client_address[0].removeprefix("::ffff:")
            body = f"{client if self.path == '/client' else name}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    Server(("::", port), Handler).serve_forever()


def ask(url, count, seconds):
    answers = collections.Counter()
    begin = time.monotonic()
    for number in range(count):
        try:
            with urllib.request.urlopen(url, timeout=3) as answer:
                answers[answer.read().decode().strip()] += 1
        except OSError:
            answers["failed"] += 1
        ahead = begin + seconds * (number + 1) / count - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
    for name, number in sorted(answers.items()):
        print(name, number)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        ask(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) if len(sys.argv) > 4 else 0)
