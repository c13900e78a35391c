"""A proxy between workers and Redis that stalls, resets and half-closes connections, by a fixed seed."""
import random
import socket
import struct
import threading
import time


class Proxy:
    def __init__(self, port, seed):
        self.target, self.random, self.closed = port, random.Random(seed), False
        self.kinds = {"stall": 0, "reset": 0, "half-close": 0}
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.pairs, self.lock = [], threading.Lock()
        self.flow = threading.Event()
        self.flow.set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while not self.closed:
            try:
                near, _ = self.server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            with self.lock:
                self.pairs = [pair for pair in self.pairs if pair[0].fileno() >= 0] + [(near, far)]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=(source, sink), daemon=True).start()

    def pump(self, source, sink):
        try:
            while data := source.recv(65536):
                self.flow.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, sink):
                end.close()

    def strike(self):
        """One fault, chosen by chance; gives its name."""
        kind = self.random.choice(sorted(self.kinds))
        self.kinds[kind] += 1
        with self.lock:
            pairs = [pair for pair in self.pairs if pair[0].fileno() >= 0]
        if kind == "stall":
            self.flow.clear()
            time.sleep(self.random.uniform(0.5, 6))
            self.flow.set()
        for near, far in pairs:
            if self.random.random() < 0.3:
                continue
            try:
                if kind == "reset":
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    near.close()
                    far.close()
                elif kind == "half-close":
                    self.random.choice((near, far)).shutdown(socket.SHUT_WR)
            except OSError:
                pass
        return kind

    def close(self):
        self.closed = True
        self.flow.set()
        self.server.close()
