// A site with hls.js on it, which is not the server's: broadcasts are played there as on anybody's page.
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';

const HLS_JS = path.join(path.dirname(createRequire(import.meta.url).resolve('hls.js')), 'hls.min.js');
const HLS_LOG = path.join(import.meta.dirname, 'hls-log.js');
const PAGE = `<!doctype html><title>player</title><video playsinline width="1280" height="720"></video>
<script src="/hls.js"></script><script src="/page.js"></script>`;

/** Serves one page with a <video>, hls.js, its log and `script` in it. */
export async function startSite(script) {
  const files = {
    '/': ['text/html', PAGE],
    '/hls.js': ['text/javascript', fs.readFileSync(HLS_JS)],
    '/page.js': ['text/javascript', `${fs.readFileSync(HLS_LOG, 'utf8')}\n${script}`],
  };
  const server = http.createServer((request, response) => {
    const [type, body] = files[request.url] ?? ['text/plain', ''];
    response.writeHead(files[request.url] ? 200 : 404, { 'content-type': type }).end(body);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** Writes down what hls.js in `page` did before and after it stalled; the file, or `null` where it does not play. */
export async function keepHlsLog(page) {
  const text = await page.evaluate(() => window.hlsLog?.text());
  if (!text) return null;
  const file = path.join(process.env.PLENUM_INTEROP_LOGS ?? os.tmpdir(), `stall-${Date.now()}.log`);
  fs.writeFileSync(file, text);
  return file;
}
