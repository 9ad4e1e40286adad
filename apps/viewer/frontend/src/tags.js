/** The header of a slice: every element as text, with a search. */

import { h } from './dom.js'
import { nextSerial } from './outbox.js'

export class TagPage {
  /** @param {import('./reader.js').Reader} reader */
  constructor(reader) {
    this.reader = reader
    /** @type {import('../contract.js').ShownTags | null} */
    this.tags = null
    this.field = h('input', { type: 'text', role: 'searchbox', oninput: () => this.#fill() })
    this.title = h('h4', {})
    this.count = h('small', { 'aria-live': 'polite' })
    this.lines = h('div', { class: 'lines', tabindex: 0 })
    this.leave = h('button', { onclick: () => this.element.close() })
    this.element = h('dialog', { class: 'tags', onkeydown: (e) => e.stopPropagation(), onclose: () => this.#closed() },
      h('header', {}, this.title, this.field, this.count, this.leave), this.lines)
  }

  ask(image, slice) {
    this.reader.tell('tags', { serial: nextSerial(), image, slice })
  }

  /** What Python read; null where nothing is open. */
  take(tags) {
    const same = tags && this.tags && tags.image === this.tags.image && tags.slice === this.tags.slice
    if (same && this.element.open) return
    this.tags = tags ?? null
    if (!tags) return this.element.close()
    const { words, images } = this.reader
    const image = images[tags.image]
    this.element.setAttribute('aria-label', words.tags)
    this.title.textContent = `${words.tags} · ${image?.modality ?? ''} ${image?.title ?? ''} · ${tags.slice + 1}`
    this.field.setAttribute('aria-label', words.tags_find)
    this.field.placeholder = words.tags_find
    this.field.value = ''
    this.leave.textContent = words.close
    this.#fill()
    this.element.showModal()
    this.field.focus()
  }

  #closed() {
    if (!this.tags) return // Python put it away
    this.tags = null
    this.reader.tell('tags', { serial: nextSerial(), image: null, slice: 0 })
  }

  /** The elements that hold every word of the search, each with the sequences that it lies in. */
  #fill() {
    const { words } = this.reader
    const { lines, left, problem } = /** @type {import('../contract.js').ShownTags} */ (this.tags)
    const wanted = this.field.value.toLowerCase().split(/\s+/).filter(Boolean)
    const hits = lines.map((x) => { const text = `${x.tag} ${x.tag.replace(/[(),]/g, '')} ${x.name} ${x.vr} ${x.value}`.toLowerCase(); return wanted.every((w) => text.includes(w)) })
    const shown = new Set()
    lines.forEach((x, n) => { if (hits[n]) for (let [k, depth] = [n, x.depth + 1]; k >= 0 && depth > 0; k--) if (lines[k].depth < depth) { shown.add(k); depth = lines[k].depth } })
    const rows = lines.filter((_, n) => shown.has(n)).map((x) => h('tr', {}, h('td', { style: { paddingLeft: `${12 * x.depth}px` } }, x.tag), h('td', {}, x.vr), h('td', {}, x.name), h('td', {}, x.value)))
    this.count.textContent = words.tags_count.replace('{n}', String(hits.filter(Boolean).length)).replace('{all}', String(lines.length))
    this.lines.replaceChildren(h('table', {}, rows),
      problem ? h('p', { class: 'note' }, problem) : lines.length ? '' : h('p', { class: 'nothing' }, words.tags_none),
      left ? h('p', { class: 'legend' }, words.tags_left.replace('{n}', String(left))) : '')
  }
}
