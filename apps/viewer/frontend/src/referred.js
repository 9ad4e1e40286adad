/** Presentation states and key object selections of a case: what they say, and a way to each image that they refer to. */

import { h, say } from './dom.js'

export class Referred {
  /** @param {HTMLElement} root @param {import('../contract.js').ReferredData} data */
  constructor(root, data) {
    this.root = h('div', { class: 'referred' })
    root.append(this.root)
    this.update(data)
  }

  /** @param {import('../contract.js').ReferredData} data */
  update({ objects }) {
    this.root.replaceChildren(...objects.map((o) => h('p', { 'data-referred': o.id }, h('strong', {}, o.name), ' ', o.said, ' ',
      o.places.map((c) => h('button', { class: 'chip', title: c.title, onclick: () => say('jump', c.place) }, c.label)))))
  }

  stand(parent) {
    parent.append(this.root)
  }

  close() {
    this.root.remove()
  }
}
