/** What was drawn on the images of a case: kept, moved, taken away, undone and done again, and a list that leads to each. */

import { h } from './dom.js'
import { angleOf } from './oblique.js'
import { say } from './together.js'

export class Marks {
  /** @param {import('./reader.js').Reader} reader */
  constructor(reader) {
    this.reader = reader
    this.all = []
    this.chosen = null // the key of the mark that is chosen
    this.done = [] // steps [before, after], null where there was none
    this.undone = []
    this.queued = null // an undo that waits
    this.summary = h('summary', {})
    this.list = h('div', { class: 'marks-list' })
    this.element = h('details', { class: 'marks' }, this.summary, this.list)
  }

  /** What the library holds, and what has not arrived there yet. */
  take(kept, waiting) {
    let all = [...kept]
    for (const { act, measurement } of waiting) {
      if (act !== 'add') all = all.filter((m) => m.id !== measurement.id)
      if (act !== 'remove') all.push(measurement)
    }
    this.all = all
    this.draw()
    const { queued } = this
    this.queued = null
    queued?.()
  }

  /** What was drawn on a plane; turned: how it is turned, null where it is not. */
  on(index, plane, slice, turned = null) {
    const way = wayOf(turned)
    return this.all.filter((m) => m.image === index && m.plane === plane && m.slice === slice && m.kind !== 'key' && wayOf(m.turned) === way)
  }

  add(mark) { this.#step(null, mark) }
  change(before, after) { this.#step(before, after) }
  remove(mark) { this.#step(mark, null) }

  /** The slice as a key image, or no longer one. */
  key(view) {
    const same = this.all.find((m) => m.kind === 'key' && m.image === view.image && m.plane === view.plane && m.slice === view.slice)
    this.#step(same ?? null, same ? null : view)
  }

  removeChosen() {
    const mark = this.all.find((m) => keyOf(m) === this.chosen)
    if (mark) this.remove(mark)
  }

  undo() { this.#turn(this.done, this.undone, true) }
  redo() { this.#turn(this.undone, this.done, false) }

  /** The newest step the other way. One whose mark is still on its way to the library waits for its number. */
  #turn(from, to, back) {
    const step = from.at(-1)
    if (!step) return
    const [was, wanted] = back ? [step[1], step[0]] : step
    const standing = was && this.all.find((m) => keyOf(m) === keyOf(was))
    if (standing && !standing.id) { this.queued = () => this.#turn(from, to, back); return }
    from.pop()
    if (this.#go(was, wanted)) to.push(step)
  }

  #step(before, after) {
    if (!this.#go(before, after)) return
    this.done.push([before, after])
    this.undone = []
  }

  #go(before, after) {
    const was = before && this.all.find((m) => keyOf(m) === keyOf(before))
    if (before && !was) return false // somebody else took it away
    if (before && !was.id) return false // it has no number yet: in a moment
    const { outbox } = this.reader
    if (!was) outbox.put('add', { ...after, id: 0, author: '', made: '' })
    else if (after) outbox.put('change', { ...after, id: was.id, author: was.author, made: was.made })
    else outbox.put('remove', was)
    if (was) this.all = this.all.filter((m) => m !== was)
    if (after) this.all = [...this.all, { ...after, id: was?.id ?? 0 }]
    this.chosen = after ? keyOf(after) : null
    this.draw()
    this.reader.draw()
    return true
  }

  draw() {
    const { words } = this.reader
    this.summary.textContent = `${words.measurements} (${this.all.length})`
    this.list.replaceChildren(...this.all.map((m) => this.#line(m)))
  }

  #line(m) {
    const { words, images } = this.reader
    const where = `${images[m.image]?.modality ?? '?'} ${images[m.image]?.kind === 'cine' ? words.frame : words[m.plane]} ${m.slice + 1}${m.turned ? ` · ${words.oblique} ${angleOf(m.plane, m.turned.turned).toFixed(0)}°` : ''}`
    const said = `${words.tools[m.kind] ?? words.key_image} ${m.text}`.trim()
    return h('div', { class: `mark ${keyOf(m) === this.chosen ? 'here' : ''}` },
      h('button', { class: 'quiet jump', onclick: () => { this.chosen = keyOf(m); this.reader.show(m); this.draw() } }, said, h('small', {}, ` ${where} · ${[m.author, m.made].filter(Boolean).join(' ')}`)),
      m.text && h('button', { class: 'quiet', title: words.insert_mark, 'aria-label': words.insert_mark, onclick: () => say('insert', m.text) }, '⇥'),
      h('button', { class: 'quiet', title: words.remove, 'aria-label': words.remove, onclick: () => this.remove(m) }, '✕'))
  }
}

/** One mark is the same as another where it stands and what it says: numbers come later. */
export function keyOf({ kind, image, plane, slice, points, text, turned }) {
  return JSON.stringify([kind, image, plane, slice, kind === 'key' ? [] : points, kind === 'arrow' ? text : '', wayOf(turned)])
}

/** How a plane is turned, as far as a turn there and back finds the same plane again. */
function wayOf(turned) {
  return turned ? [...turned.pivot, ...turned.turned.flat()].map((v) => Number(v.toFixed(6)) + 0).join() : ''
}
