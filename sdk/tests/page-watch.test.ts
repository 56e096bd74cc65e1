import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { PageWatch } from '../src/page-watch'

class Connection extends EventTarget {
  type = 'wifi'
}

describe('a page', () => {
  const page = new EventTarget()
  const visible = Object.assign(new EventTarget(), { hidden: false })
  let connection: Connection
  let told: string[]
  let watch: PageWatch

  beforeEach(() => {
    connection = new Connection()
    vi.stubGlobal('window', page)
    vi.stubGlobal('document', visible)
    vi.stubGlobal('navigator', { connection })
    told = []
    watch = new PageWatch({
      wake: () => told.push('wake'),
      networkChanged: () => told.push('network'),
      left: () => told.push('left'),
      devicesChanged: () => told.push('devices'),
    })
    watch.start()
  })

  afterEach(() => {
    watch.stop()
    vi.unstubAllGlobals()
  })

  const tell = (target: EventTarget, name: string) => target.dispatchEvent(new Event(name))

  it('that is online again tries again at once, over a new media path', () => {
    tell(page, 'online')
    expect(told).toEqual(['wake', 'network'])
  })

  it('on another kind of network looks for a new media path, but not for every estimate', () => {
    tell(connection, 'change')
    expect(told).toEqual([])
    connection.type = 'none'
    tell(connection, 'change')
    expect(told, 'nothing to be had without any network').toEqual([])
    connection.type = 'cellular'
    tell(connection, 'change')
    expect(told).toEqual(['wake', 'network'])
    tell(connection, 'change')
    expect(told).toHaveLength(2)
  })

  it('that is looked at again tries again, and one that is left says so', () => {
    visible.hidden = true
    tell(visible, 'visibilitychange')
    expect(told).toEqual([])
    visible.hidden = false
    tell(visible, 'visibilitychange')
    tell(page, 'pagehide')
    expect(told).toEqual(['wake', 'left'])
  })

  it('is not listened to any more after the end', () => {
    watch.stop()
    tell(page, 'online')
    expect(told).toEqual([])
  })
})
