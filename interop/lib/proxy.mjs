// A TCP proxy whose connections can be cut, as a bad network would: no close frame, no warning.
import net from 'node:net';

/** Forwards to `url`'s host and port; `cut()` destroys all connections, `refuse` keeps new ones out. */
export async function startProxy(url) {
  const target = new URL(url);
  const sockets = new Set();
  const proxy = { refuse: false };
  const server = net.createServer((inner) => {
    if (proxy.refuse) return inner.destroy();
    const outer = net.connect(Number(target.port), target.hostname);
    for (const [socket, other] of [[inner, outer], [outer, inner]]) {
      sockets.add(socket);
      socket.on('error', () => {}).on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    inner.pipe(outer).pipe(inner);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(proxy, {
    url: `http://127.0.0.1:${server.address().port}`,
    cut() {
      for (const socket of sockets) socket.destroy();
    },
    stop() {
      this.cut();
      server.close();
    },
  });
}
