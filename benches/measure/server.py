"""A redis-server of one's own, and what it has done."""
import os
import shlex
import socket
import subprocess
import tempfile
import time

import redis


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


class Server:
    """A real redis-server on a free port, on loopback only, without persistence."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix='petiole-benches-')
        self.port = free_port()
        command = shlex.split(os.environ.get('REDIS_SERVER', 'redis-server'))
        options = ['--bind', '127.0.0.1', '--port', str(self.port), '--save', '', '--appendonly', 'no', '--dir', self.folder.name]
        self.process = subprocess.Popen(command + options, stdout=subprocess.DEVNULL)
        self.url = f'redis://127.0.0.1:{self.port}/0'
        self.client = redis.Redis(port=self.port)
        for _ in range(250):
            try:
                self.client.ping()
                return self
            except redis.exceptions.ConnectionError:
                time.sleep(0.02)
        raise RuntimeError('redis-server does not answer')

    def __exit__(self, *_):
        self.client.close()
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def cost(self):
        """CPU seconds, commands and bytes since the start. Commands are counted also where a script calls them."""
        pipe = self.client.pipeline(transaction=False)
        pipe.info('cpu')
        pipe.info('commandstats')
        pipe.info('stats')
        cpu, commands, stats = pipe.execute()
        return {
            'cpu': cpu['used_cpu_user'] + cpu['used_cpu_sys'],
            'commands': sum(value['calls'] for value in commands.values()),
            'bytes': stats['total_net_input_bytes'] + stats['total_net_output_bytes'],
        }


def resp(*parts):
    """A command as it goes over the wire."""
    out = [b'*%d\r\n' % len(parts)]
    for part in parts:
        part = part if isinstance(part, bytes) else str(part).encode()
        out.append(b'$%d\r\n%s\r\n' % (len(part), part))
    return b''.join(out)


class Wire:
    """A bare socket to Redis: as a client it costs next to nothing."""

    def __init__(self, port):
        self.socket = socket.create_connection(('127.0.0.1', port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.marks = 0

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, complete, timeout=30):
        """Reads until `complete` says that what came is enough."""
        self.socket.settimeout(timeout)
        answer = b''
        while not complete(answer):
            some = self.socket.recv(1 << 18)
            if not some:
                raise ConnectionError('Redis has closed the connection')
            answer += some
        return answer

    def blast(self, data):
        """Sends commands and waits until all of them have been answered."""
        self.marks += 1
        mark = b'--mark %d--\r\n' % self.marks
        self.send(data + resp('ECHO', mark[:-2]))
        tail = b''
        self.socket.settimeout(60)
        while not tail.endswith(mark):
            some = self.socket.recv(1 << 18)
            if not some:
                raise ConnectionError('Redis has closed the connection')
            tail = (tail + some)[-len(mark):]
