"""A receiver of Standard Webhooks, as somebody else would write one: with the
published package, and with nothing of Galley's.

Prints the port it listens on, then one line of JSON for every request. The
first one that verifies gets no reply; later ones do. Its secret is the first
line of its input.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook(sys.stdin.readline().strip())
verified = 0


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        global verified
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            message = webhook.verify(body, dict(self.headers))
        except WebhookVerificationError as error:
            self.tell(verified=False, why=str(error))
            self.reply(401, {"error": {"message": str(error)}})
            return
        verified += 1
        self.tell(
            verified=True,
            id=self.headers["webhook-id"],
            message=message,
            body=body.decode(),
        )
        if verified == 1:
            # The effect has happened and nobody hears of it.
            self.close_connection = True
            return
        self.reply(200, {"id": "received-" + self.headers["webhook-id"]})

    def tell(self, **what):
        print(json.dumps(what), flush=True)

    def reply(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_address[1], flush=True)
server.serve_forever()
