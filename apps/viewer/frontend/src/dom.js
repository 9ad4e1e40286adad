/** A few elements at a time, without a framework. */

/** Make an element: attributes by name, `on…` as listeners, children as nodes or text. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value)
    else if (name === 'style') Object.assign(node.style, value)
    else if (name in node && name !== 'list' && typeof value !== 'string') node[name] = value
    else node.setAttribute(name, value === true ? '' : value)
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false))
  return node
}

/** A list to choose from; options are [value, label] pairs. */
export function choose(label, options, value, change) {
  return h('select', { 'aria-label': label, title: label, onchange: (e) => change(e.target.value) },
    options.map(([v, text]) => h('option', { value: v, selected: String(v) === String(value) }, text)))
}

/** True while somebody types: shortcuts must not take the letters. */
export function typing(event) {
  const path = event.composedPath()
  return path.some((n) => n.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(n.tagName) && n.type !== 'range')
}

/** What one component says to the others on the page. */
export const bus = new EventTarget()
export const say = (name, detail) => bus.dispatchEvent(new CustomEvent(name, { detail }))

/** Listen until the returned function is called. */
export function hear(target, name, listener) {
  target.addEventListener(name, listener)
  return () => target.removeEventListener(name, listener)
}
