import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { ClientMessage } from '../src/generated/protocol'
import { encodeClientMessage, parseServerMessage } from '../src/protocol'

interface Fixture {
  direction: 'client' | 'server'
  name: string
  json: { t: string } & Record<string, unknown>
}

const file = new URL('../../signaling/tests/messages.json', import.meta.url)
const fixtures = JSON.parse(readFileSync(file, 'utf8')) as Fixture[]

describe('the protocol’s example messages', () => {
  const from = (direction: Fixture['direction']) => fixtures.filter((one) => one.direction === direction)

  it.each(from('server'))('reads $name', ({ json }) => {
    expect(parseServerMessage(JSON.stringify(json))).toEqual(json)
  })

  it.each(from('client'))('writes $name', ({ json }) => {
    expect(JSON.parse(encodeClientMessage(json as unknown as ClientMessage))).toEqual(json)
  })

  it('covers every type the SDK knows', () => {
    const types = new Set(from('server').map(({ json }) => json.t))
    for (const type of ['welcome', 'answer', 'need', 'slots', 'joined', 'left', 'published', 'stream', 'speakers', 'goaway', 'bye', 'err']) {
      expect(types).toContain(type)
    }
  })

  it('ignores what a newer server may send, and what is no message', () => {
    for (const text of ['{"t":"hologram","n":4}', '{}', '[]', 'null', '"t"', '{"t":7}', '{', '{"t":"toString"}']) {
      expect(parseServerMessage(text)).toBeUndefined()
    }
  })
})
