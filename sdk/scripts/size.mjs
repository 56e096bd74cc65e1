// Writes the gzip size of the ES build down and fails above the budget.
import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'

const BUDGET_BYTES = 20 * 1024
const size = gzipSync(readFileSync(new URL('../dist/plenum.js', import.meta.url)), { level: 9 }).length
console.log(`@plenum/client: ${size} bytes gzip (budget ${BUDGET_BYTES})`)
if (size > BUDGET_BYTES) process.exit(1)
