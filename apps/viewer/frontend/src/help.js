/** The page of keys: what each does, and a way to choose another. */

import { h, reopened } from './dom.js'
import { nextSerial } from './outbox.js'
import { shown } from './toolbar.js'

export class KeyPage {
  /** @param {import('./reader.js').Reader} reader */
  constructor(reader) {
    this.reader = reader
    this.element = h('dialog', { class: 'keys', onkeydown: (e) => this.#key(e), onclose: () => { this.waiting = null } })
    this.waiting = null // what the next key will do
  }

  toggle() {
    if (this.element.open) return this.element.close()
    this.draw()
    this.element.showModal()
  }

  draw() {
    const { words, data } = this.reader
    this.element.setAttribute('aria-label', words.keys_title)
    const rows = Object.entries(data.keys).map(([does, key]) => h('tr', {}, h('td', {}, words.keys[does] ?? words.tools[does] ?? words[does] ?? does),
      h('td', {}, h('button', { 'data-key': does, class: this.waiting === does ? 'on' : '', disabled: !data.may_save, onclick: () => { this.waiting = does; this.draw() } }, this.waiting === does ? words.press_key : shown(key, words)))))
    this.element.replaceChildren(h('h4', {}, words.keys_title), h('p', { class: 'legend' }, words.keys_fixed), this.problem ? h('p', { class: 'note' }, this.problem) : '',
      h('div', { class: 'columns' }, h('table', {}, rows)),
      h('p', {}, data.may_save && h('button', { onclick: () => this.#tell({}) }, words.keys_house), ' ', h('button', { onclick: () => this.element.close() }, words.close)))
    if (this.waiting) /** @type {HTMLElement | null} */ (this.element.querySelector(`[data-key=${this.waiting}]`))?.focus()
  }

  #key(event) {
    if (!this.element.open) return // its button keeps the focus for a moment after it closed
    event.stopPropagation()
    if (this.waiting) event.preventDefault()
    this.press(event.key)
  }

  /** The key that was waited for; true where one was. */
  press(key) {
    if (!this.waiting || ['Shift', 'Control', 'Alt', 'Meta'].includes(key)) return false
    const does = this.waiting
    this.waiting = null
    const { words, data } = this.reader
    const other = Object.entries(data.keys).find(([d, k]) => k === key && d !== does)
    this.problem = other ? words.key_taken.replace('{key}', shown(key, words)) : ''
    if (key !== 'Escape' && !other) this.#tell({ ...data.keys, [does]: key })
    this.draw()
    return true
  }

  /** Open again after the way to another place of the page, where it was open. */
  stand() {
    if (reopened(this.element) && this.waiting) this.draw()
  }

  #tell(keys) {
    if (Object.keys(keys).length) this.reader.data.keys = keys
    this.reader.tell('keyed', { serial: nextSerial(), keys })
  }
}
