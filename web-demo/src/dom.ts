/** Builds elements; all text goes in as text, never as HTML. */

type Child = Node | string | undefined | false
type Listeners = { [Name in keyof HTMLElementEventMap as `on${Name}`]?: (event: HTMLElementEventMap[Name]) => void }
type Attributes = Listeners & { [name: string]: unknown }

/** Makes an element: `on…` become listeners, `true` and `false` switch attributes. */
export function el<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue
    if (name.startsWith('on') && typeof value === 'function') {
      element.addEventListener(name.slice(2), value as EventListener)
    } else {
      element.setAttribute(name, value === true ? '' : String(value))
    }
  }
  element.append(...children.filter((child): child is Node | string => child !== undefined && child !== false))
  return element
}

/** Shows one view in place of whatever was there. */
export function show(...views: Node[]): void {
  document.querySelector('#app')!.replaceChildren(...views)
}
