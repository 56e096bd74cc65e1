import { describe, expect, it } from 'vitest'
import { frameMessage, MESSAGE_BYTES_MAX, parseMessage } from '../src/framing'
import { toBase64 } from '../src/deflate'

const payload = new TextEncoder().encode('hällo')

describe('data channel messages', () => {
  it('carry a length, a header and the payload', () => {
    const message = frameMessage({ topic: 'chat' }, payload)
    const header = '{"topic":"chat"}'
    expect([...message.subarray(0, 2)]).toEqual([0, header.length])
    expect(new TextDecoder().decode(message.subarray(2, 2 + header.length))).toBe(header)
    expect([...message.subarray(2 + header.length)]).toEqual([...payload])
  })

  it('name their receivers when they are for some only', () => {
    const text = new TextDecoder().decode(frameMessage({ to: ['bob'], topic: '' }, payload))
    expect(text).toContain('{"to":["bob"],"topic":""}')
  })

  it('come back with the sender the server stamped', () => {
    const stamped = frameMessage({ from: 'ann', topic: 'chat' } as never, payload)
    expect(parseMessage(stamped)).toEqual({ from: 'ann', topic: 'chat', payload })
  })

  it('may be 64 KiB and not one byte more', () => {
    const room = MESSAGE_BYTES_MAX - 2 - '{"topic":"x"}'.length
    expect(frameMessage({ topic: 'x' }, new Uint8Array(room)).length).toBe(MESSAGE_BYTES_MAX)
    expect(() => frameMessage({ topic: 'x' }, new Uint8Array(room + 1))).toThrowError(/65536/)
  })

  it('are dropped when cut short anywhere in the header', () => {
    const stamped = frameMessage({ from: 'ann', topic: 'chat' } as never, new Uint8Array())
    for (let length = 0; length < stamped.length; length += 1) {
      expect(parseMessage(stamped.subarray(0, length))).toBeUndefined()
    }
  })

  it('are dropped when the header is no header', () => {
    for (const json of ['', 'null', '[]', '7', '{"topic":7}', '{"from":"x"}', '{']) {
      const bytes = new TextEncoder().encode(json)
      expect(parseMessage(new Uint8Array([0, bytes.length, ...bytes]))).toBeUndefined()
    }
  })
})

it('writes base64 of any bytes', () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
  expect(toBase64(bytes)).toBe(Buffer.from(bytes).toString('base64'))
})
