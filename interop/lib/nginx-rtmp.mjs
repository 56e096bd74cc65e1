// nginx with its RTMP module: a server that nobody here wrote, for broadcasts to be pushed to.
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { start } from './programs.mjs';
import { freePort } from './server.mjs';
import { eventually } from './wait.mjs';

const NGINX = '/usr/sbin/nginx';

/**
 * One nginx on a port of its own. Its application `live` takes any key, which players ask for as well;
 * `closed` takes none.
 */
export async function startNginx() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'plenum-nginx-'));
  const port = await freePort();
  const conf = path.join(folder, 'nginx.conf');
  // One process: whoever kills it kills all of it.
  fs.writeFileSync(conf, `
    load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
    master_process off;
    pid ${folder}/nginx.pid;
    error_log ${folder}/error.log info;
    events { worker_connections 64; }
    rtmp { server {
      listen 127.0.0.1:${port};
      access_log off;
      application live { live on; wait_key on; wait_video on; }
      application closed { live on; deny publish all; }
    } }`);
  let program;
  return {
    url: `rtmp://127.0.0.1:${port}`,
    async start() {
      program = start(NGINX, ['-p', folder, '-c', conf, '-e', `${folder}/error.log`, '-g', 'daemon off;']);
      await eventually('nginx to listen', async () => {
        if (program.hasEnded()) throw new Error(`nginx ended: ${program.output()}`);
        return isOpen(port);
      });
    },
    kill: () => program.kill(),
    async stop() {
      await program?.kill();
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}

function isOpen(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false)).on('connect', () => socket.destroy());
  });
}
