import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'

export default defineConfig({
  // The pages use the SDK's sources, so that one build serves both.
  resolve: { alias: { '@plenum/client': fileURLToPath(new URL('../sdk/src/index.ts', import.meta.url)) } },
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    // hls.js is one piece, and its licence asks to be passed on.
    chunkSizeWarningLimit: 600,
    license: { fileName: 'licenses.txt' },
  },
  server: { proxy: { '/v1': { target: 'http://127.0.0.1:8080', ws: true }, '/whep': 'http://127.0.0.1:8080', '/live': 'http://127.0.0.1:8080', '/metrics': 'http://127.0.0.1:8080' } },
})
