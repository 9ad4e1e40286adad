/** Presentation states, key object selections and outlines of others: what they say, and a way to each place that they speak of. */

import { h } from './dom.js'
import { isDrawn, isShown, show, toggle, watch } from './states.js'
import { say } from './together.js'

export class Referred {
  /** @param {HTMLElement} root @param {import('../contract.js').ReferredData} data */
  constructor(root, data) {
    this.root = h('div', { class: 'referred' })
    root.append(this.root)
    this.off = watch(() => this.update(this.data))
    this.update(data)
  }

  /** @param {import('../contract.js').ReferredData} data */
  update(data) {
    this.data = data
    const { objects, words = {} } = data
    const press = (name, on, act) => h('button', { class: `chip ${on ? 'on' : ''}`, 'aria-pressed': String(on), title: words[`${name}_hint`], onclick: act }, words[name])
    this.root.replaceChildren(...objects.map((o) => h('p', { 'data-referred': o.id }, h('strong', {}, o.name), ' ', o.said, ' ',
      o.draws && press('draw', isDrawn(o.id), () => toggle(o.id)), o.shows && press('as_shown', isShown(o.id), () => show(o.id)),
      o.places.map((c) => h('button', { class: 'chip', title: c.title, onclick: () => say('jump', c.place) }, c.label)),
      (o.structures ?? []).map((s) => this.#structure(s, words)))))
  }

  /** One outline: its switch in its colour, and a way to it. @param {import('../contract.js').ListedStructure} s */
  #structure(s, words) {
    const on = isDrawn(s.id)
    const dot = h('b', { class: 'dot', style: { background: on ? s.colour : 'none', borderColor: s.colour } })
    return h('span', { class: 'structure' },
      h('button', { class: `chip other ${on ? 'on' : ''}`, 'aria-pressed': String(on), title: words.structure_hint, onclick: () => toggle(s.id) }, dot, s.name),
      h('button', { class: 'quiet', title: words.go, 'aria-label': `${words.go}: ${s.name}`, onclick: () => say('jump', s.place) }, '◎'), h('small', {}, s.said))
  }

  stand(parent) {
    parent.append(this.root)
  }

  close() {
    this.off()
    this.root.remove()
  }
}
