/** The pictures on buttons, drawn on a 24x24 grid with the current text colour. */

const PATHS = {
  mic: 'M12 15a3.5 3.5 0 0 0 3.5-3.5v-5a3.5 3.5 0 1 0-7 0v5A3.5 3.5 0 0 0 12 15Zm-6.5-3.6a6.5 6.5 0 0 0 13 0M12 18v3m-3.5 0h7',
  micOff: 'M8.5 8.5v3a3.5 3.5 0 0 0 5.6 2.8m1.4-3.6V6.5a3.5 3.5 0 0 0-6.3-2.1M5.5 11.4a6.5 6.5 0 0 0 10.7 5M18.5 11.4a6.4 6.4 0 0 1-.6 2.7M12 18v3m-3.5 0h7M4 3l16 18',
  camera: 'M4.5 6.5h9a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2h-9a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2Zm11 4.2 6-3.2v9l-6-3.2',
  cameraOff: 'M9.5 6.5h4a2 2 0 0 1 2 2v3.5m0 3.3a2 2 0 0 1-2 2.2h-9a2 2 0 0 1-2-2v-7a2 2 0 0 1 1.7-2M15.5 10.7l6-3.2v9l-3.4-1.8M4 3l16 18',
  screen: 'M3 5.5h18v11H3zM9 20.5h6m-3-4v4m0-6.5V8.5m-2.6 2.3L12 8.2l2.6 2.6',
  chat: 'M4.5 5h15a1.5 1.5 0 0 1 1.5 1.5v9a1.5 1.5 0 0 1-1.5 1.5H11l-4.5 3.8V17h-2A1.5 1.5 0 0 1 3 15.5v-9A1.5 1.5 0 0 1 4.5 5ZM7.5 9.5h9m-9 3.2h6',
  leave: 'M3.3 15.2c-.8-.9-.9-2.5 0-3.4 4.8-4.4 12.6-4.4 17.4 0 .9.9.8 2.5 0 3.4l-1 .9c-.4.4-1 .4-1.5.1l-2.6-1.7a1.2 1.2 0 0 1-.5-1.1l.1-1.5a9.8 9.8 0 0 0-6.4 0l.1 1.5c0 .4-.2.9-.5 1.1l-2.6 1.7c-.5.3-1.1.3-1.5-.1Z',
  grid: 'M4 4.5h7v6.5H4zM13 4.5h7v6.5h-7zM4 13h7v6.5H4zM13 13h7v6.5h-7z',
  speaker: 'M3.5 4.5h17v10h-17zM3.5 17.5h4.7v2.5H3.5zM9.7 17.5h4.7v2.5H9.7zM15.8 17.5h4.7v2.5h-4.7z',
  link: 'M10 14a4 4 0 0 0 5.7 0l3.6-3.6a4 4 0 0 0-5.7-5.7L12.5 5.8M14 10a4 4 0 0 0-5.7 0l-3.6 3.6a4 4 0 0 0 5.7 5.7l1.1-1.1',
  settings: 'M4 7.5h9m4 0h3M4 16.5h3m4 0h9M15 5.3a2.2 2.2 0 1 1 0 4.4 2.2 2.2 0 0 1 0-4.4ZM9 14.3a2.2 2.2 0 1 1 0 4.4 2.2 2.2 0 0 1 0-4.4Z',
  more: 'M12 5.8v.01M12 12v.01M12 18.2v.01',
  check: 'M4.5 12.5 10 18 19.5 7',
  close: 'M6 6l12 12M18 6 6 18',
  send: 'M4 12 20.5 4.5 15 20l-3.3-6.3L4 12Zm7.7 1.7L20.5 4.5',
  previous: 'M14.5 5.5 8 12l6.5 6.5',
  next: 'M9.5 5.5 16 12l-6.5 6.5',
  people: 'M9 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7Zm-6.5 8c0-3.3 2.9-5.5 6.5-5.5s6.5 2.2 6.5 5.5M16 4.9a3.5 3.5 0 0 1 0 6.3m2 3.3c2.1.7 3.5 2.5 3.5 5',
  play: 'M8 5.2v13.6L19 12 8 5.2Z',
  pause: 'M7 5.5h3.2v13H7zM13.8 5.5H17v13h-3.2z',
  stop: 'M6.5 6.5h11v11h-11z',
  sound: 'M4 9.5h3.5L12 5.5v13l-4.5-4H4v-5Zm11.5-.8a4.6 4.6 0 0 1 0 6.6m2.4-9a8 8 0 0 1 0 11.4',
  soundOff: 'M4 9.5h3.5L12 5.5v13l-4.5-4H4v-5Zm11.5 0 5 5m0-5-5 5',
  inset: 'M3 5h18v14H3zM12.5 12.5h6v4h-6z',
  fill: 'M4 9V4.5h5M15 4.5h5V9M20 15v4.5h-5M9 19.5H4V15',
  unfill: 'M9 4.5V9H4M20 9h-5V4.5M15 19.5V15h5M4 15h5v4.5',
  warning: 'M12 4 2.8 19.5h18.4L12 4Zm0 6v4.5m0 2.5v.01',
} as const

/** Names of the icons. */
export type IconName = keyof typeof PATHS

const SVG = 'http://www.w3.org/2000/svg'

/** Draws an icon; it has no name of its own, the button around it does. */
export function icon(name: IconName): SVGElement {
  const svg = document.createElementNS(SVG, 'svg')
  svg.setAttribute('viewBox', '0 0 24 24')
  svg.setAttribute('aria-hidden', 'true')
  svg.classList.add('icon', `icon-${name}`)
  const path = document.createElementNS(SVG, 'path')
  path.setAttribute('d', PATHS[name])
  svg.append(path)
  return svg
}
