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

const PRESSED = ['BUTTON', 'A', 'SUMMARY'] // what Enter and Space are for while it has the focus
const FIELDS = ['INPUT', 'TEXTAREA', 'SELECT']

/**
 * True where a key belongs to what has the focus: letters to a field, Enter and Space to a button, arrows to a
 * slider that is none of ours (`data-keys` says that the page's keys hold there too).
 */
export function taken(event) {
  const pressing = event.key === 'Enter' || event.key === ' '
  return event.composedPath().some((n) => {
    if (n.isContentEditable) return true
    if (FIELDS.includes(n.tagName)) return !n.dataset.keys
    return pressing && (PRESSED.includes(n.tagName) || n.getAttribute?.('role') === 'button' || n.getAttribute?.('role') === 'tab')
  })
}

/** A dialog that was open goes on so after its page took it to another place; true where it did. */
export function reopened(dialog) {
  if (!dialog.open || dialog.matches(':modal')) return false
  dialog.removeAttribute('open')
  dialog.showModal()
  return true
}

/** What one component says to the others on the page. */
export const bus = new EventTarget()

/** Listen until the returned function is called. */
export function hear(target, name, listener, capture = false) {
  target.addEventListener(name, listener, capture)
  return () => target.removeEventListener(name, listener, capture)
}
