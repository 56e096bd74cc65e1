// A certificate of a day for the addresses of a test, signed by itself.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Writes `cert` and `key` as PEM files for IP addresses; `remove` takes them away. */
export function makeCertificate(addresses) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'plenum-certificate-'));
  const [cert, key] = ['cert.pem', 'key.pem'].map((name) => path.join(folder, name));
  const names = addresses.map((address) => `IP:${address}`).join(',');
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1',
    '-subj', '/CN=plenum-interop', '-addext', `subjectAltName=${names}`, '-keyout', key, '-out', cert,
  ], { stdio: 'ignore' });
  return { cert, key, remove: () => fs.rmSync(folder, { recursive: true, force: true }) };
}
