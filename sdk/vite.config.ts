import { defineConfig } from 'vite'

export default defineConfig({
  build: {
    target: 'es2022',
    sourcemap: true,
    lib: {
      entry: 'src/index.ts',
      name: 'Plenum',
      formats: ['es', 'umd'],
      fileName: (format) => (format === 'es' ? 'plenum.js' : 'plenum.umd.cjs'),
    },
  },
})
