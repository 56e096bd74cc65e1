/** The menu of one tile: pin, figures, and which layer to receive. */
import type { RemotePublication } from '@plenum/client'
import { bitrate } from './format'
import { openMenu } from './menu'
import type { Choice } from './menu'
import type { Tile } from './tile'

/** Opens the menu at its button; arrow keys move, Escape closes. */
export function openTileMenu(button: HTMLButtonElement, tile: Tile, pin: (tile: Tile) => void): void {
  const choices: Choice[] = [
    { text: 'Show large', act: () => pin(tile) },
    { text: tile.hasStats ? 'Hide statistics' : 'Show statistics', act: () => tile.setStats(!tile.hasStats) },
  ]
  const { picture } = tile
  if (picture && 'stream' in picture) choices.push(...layerChoices(picture))
  openMenu(button, choices)
}

function layerChoices(picture: RemotePublication): Choice[] {
  const { layers, layer: chosen } = picture
  const auto: Choice = {
    text: 'Quality: automatic',
    isChosen: chosen === undefined,
    act: () => picture.setLayer(undefined),
  }
  if (layers.length < 2) return [auto]
  const one = layers.map((layer, index) => ({
    text: `Quality: ${QUALITY_NAMES[index] ?? `layer ${index + 1}`}${describe(layer)}`,
    isChosen: chosen === index,
    act: () => picture.setLayer(index),
  }))
  return [auto, ...one.reverse()]
}

const QUALITY_NAMES = ['low', 'medium', 'high']

function describe({ width, height, bitrate: bps, live }: RemotePublication['layers'][number]): string {
  const parts = [width && height ? `${width}×${height}` : '', live && bps ? bitrate(bps) : live ? '' : 'not sent now']
  const text = parts.filter(Boolean).join(', ')
  return text && ` (${text})`
}
