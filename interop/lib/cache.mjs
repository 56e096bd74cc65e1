// nginx as a cache in front of the server, as a content network has them: nothing is set up for broadcasts.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { start } from './programs.mjs';
import { freePort } from './server.mjs';
import { eventually } from './wait.mjs';

/** One nginx on a port of its own, in front of `origin`. */
export async function startCache(origin) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'plenum-cache-'));
  const port = await freePort();
  const conf = path.join(folder, 'nginx.conf');
  const log = path.join(folder, 'access.log');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`);
  fs.writeFileSync(conf, `
    daemon off; master_process off; pid ${folder}/nginx.pid; error_log ${folder}/error.log;
    events { worker_connections 256; }
    http {
      ${temporary.join(' ')}
      log_format status '$upstream_cache_status $status $request_uri';
      access_log ${log} status;
      proxy_cache_path ${folder}/cache keys_zone=live:1m inactive=1m;
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass ${origin};
          proxy_http_version 1.1;
          proxy_cache live;
          proxy_cache_lock on;
          add_header X-Cache-Status $upstream_cache_status always;
        }
      }
    }`);
  const nginx = start('/usr/sbin/nginx', ['-p', folder, '-c', conf, '-e', `${folder}/error.log`]);
  const url = `http://127.0.0.1:${port}`;
  await eventually('nginx to serve', async () => (await fetch(`${url}/healthz`)).ok);
  return {
    url,
    /** How often what `matches`, by its path, was answered from the cache, and how often it was fetched. */
    counts(matches) {
      const lines = fs.readFileSync(log, 'utf8').split('\n').map((line) => line.split(' ')).filter(([, , uri]) => uri && matches(uri));
      const count = (...states) => lines.filter(([state]) => states.includes(state)).length;
      return { hits: count('HIT'), misses: count('MISS', 'EXPIRED') };
    },
    async close() {
      await nginx.stop();
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}
