/** The report to work on: each sentence with its state and source, to be accepted, edited, rejected, moved, added. */

import { bus, h, hear, taken } from './dom.js'
import { away, say, second, send } from './together.js'
import { nextSerial } from './outbox.js'

const MARKS = { present: '●', possible: '◐', absent: '○', not_assessed: '–', notice: '' }
const SAVE_AFTER_MS = 2000 // of typing: less than five seconds can be lost
const MOST_UNDONE = 50 // changes that can be taken back
const ELSEWHERE = ['next_sentence', 'previous_sentence', 'accept', 'reject'] // keys of a report in a window of its own

export class ReportEditor {
  /**
   * @param {HTMLElement} root
   * @param {import('../contract.js').ReportData} data
   * @param {(event: string, value: import('../contract.js').ReportChange | import('../contract.js').Typing) => void} tell
   */
  constructor(root, data, tell) {
    this.tell = tell
    this.at = [0, 0]
    this.serial = null // of the change that Python has not answered yet
    this.waiting = false
    /** @type {any[]} */
    this.past = [] // sections before each change of this person's, to take it back
    this.root = h('div', { class: 'report' })
    root.append(this.root)
    this.off = [hear(document, 'keydown', (e) => this.#key(e)), hear(bus, 'insert', (e) => this.insert(e.detail)), hear(bus, 'decide', (e) => this.#decide(e.detail))]
    this.update(data)
  }

  /**
   * New state from Python. What the writer is in the middle of stays; an answer to our own change is no news.
   * @param {import('../contract.js').ReportData} data
   */
  update(data) {
    const answer = this.serial !== null && data.heard.changed === this.serial
    if (answer) this.serial = null
    this.#unsaved()
    const untouched = plain(data.sections) === this.sent
    if (answer && (this.waiting || untouched)) {
      const mine = untouched ? this.sections : rebased(this.sections, JSON.parse(this.sent), data.sections)
      this.data = mine ? data : { ...data, revision: this.data.revision } // on the old revision: Python shows both, the person decides
      this.sections = mine ?? this.sections
      if (this.waiting) this.#send()
      if (!this.editing) this.draw()
      return
    }
    if (this.serial !== null || (this.editing && data.revision === this.data.revision)) return
    this.data = data
    if (plain(data.sections) !== plain(this.sections ?? [])) this.past = [] // another hand changed it: what was before is no more
    this.sections = structuredClone(data.sections)
    this.editing = null
    this.waiting = false
    const open = data.pending && this.sections[data.pending.section]?.sentences[data.pending.sentence]
    this.draw()
    if (open && data.may_edit) this.edit(data.pending.section, data.pending.sentence, data.pending.text)
  }

  draw() {
    const { words, may_edit } = this.data
    const items = this.sections.flatMap((section, s) => [
      h('h5', {}, section.title, may_edit && h('button', { class: 'quiet', title: words.add, 'data-add': section.id, onclick: () => this.add(s) }, '＋'),
        may_edit && s === 0 && h('button', { class: 'quiet', title: words.undo, 'aria-label': words.undo, 'data-undo': '', disabled: !this.past.length, onclick: () => this.undo() }, '↶')),
      ...section.sentences.map((x, n) => this.#sentence(x, s, n)),
    ])
    this.root.replaceChildren(...items, h('p', { class: 'legend' }, words.report_legend))
  }

  #sentence(x, s, n) {
    const { words, may_edit } = this.data
    const here = this.at[0] === s && this.at[1] === n
    const act = (name, label, run) => h('button', { class: 'quiet', tabindex: here ? 0 : -1, 'data-act': name, title: `${words.acts[name]}`, onclick: (e) => { e.stopPropagation(); run() } }, label)
    const chips = x.chips.map((c) => h('button', { class: 'chip', tabindex: here ? 0 : -1, title: c.title, onclick: (e) => { e.stopPropagation(); this.at = [s, n]; say('jump', c.place) } }, c.label))
    const body = this.editing && here
      ? this.#box(x, s, n)
      : h('span', { class: 'text', ondblclick: () => may_edit && this.edit(s, n) }, `${MARKS[x.assertion]} ${x.text}`)
    return h('div', {
      class: `sentence ${x.state} ${here ? 'here' : ''} ${x.assertion}`, 'data-state': x.state, 'data-section': this.sections[s].id, 'data-n': n,
      onclick: () => this.select(s, n), draggable: may_edit && !this.editing,
      ondragstart: () => { this.dragged = [s, n] }, ondragover: (e) => e.preventDefault(), ondrop: () => this.drop(s, n),
    }, h('span', { class: 'state', title: words.sentence_states[x.state] }, { drafted: '·', accepted: '✓', edited: '✎', rejected: '✗' }[x.state]), body, ...chips,
    may_edit && !this.editing && h('span', { class: 'acts' }, act('accept', '✓', () => this.set(s, n, 'accepted')), act('edit', '✎', () => this.edit(s, n)), act('reject', '✗', () => this.set(s, n, 'rejected')),
      act('up', '↑', () => this.move(s, n, -1)), act('down', '↓', () => this.move(s, n, 1))))
  }

  #box(x, s, n) {
    const area = h('textarea', { rows: 2, 'aria-label': this.data.words.acts.edit })
    area.value = this.editing.text
    const later = () => {
      clearTimeout(this.timer)
      this.timer = setTimeout(() => this.tell('typing', { section: s, sentence: n, text: area.value, revision: this.data.revision }), SAVE_AFTER_MS)
    }
    area.addEventListener('input', () => { expand(area, this.data.macros ?? {}); this.editing.text = area.value; later() })
    area.addEventListener('keydown', (e) => {
      if (e.key === 'Tab' && field(area, e.shiftKey)) { e.preventDefault(); return }
      if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) { e.preventDefault(); this.finish(s, n, area.value) }
      if (e.key === 'Escape') { this.#quit(); if (!x.text) this.sections[s].sentences.splice(n, 1); this.draw() } // a new sentence goes whole
    })
    area.addEventListener('blur', () => this.editing && this.finish(s, n, area.value))
    return area
  }

  select(s, n) {
    if (this.editing) return
    this.at = [s, n]
    this.draw()
    const place = this.sections[s].sentences[n]?.chips[0]?.place
    if (place) say('jump', place)
  }

  edit(s, n, text = null) {
    this.at = [s, n]
    this.editing = { text: text ?? this.sections[s].sentences[n].text }
    this.draw()
    const area = this.root.querySelector('textarea') // at once: the next key must not be taken for a shortcut
    area.focus()
    area.style.height = `${area.scrollHeight + 4}px`
  }

  /** A measurement's figure into the chosen sentence, where the writer stands in it or at its end. */
  insert(text) {
    const [s, n] = this.at
    if (!this.data.may_edit || !this.sections[s]?.sentences[n]) return
    if (!this.editing) this.edit(s, n)
    const area = this.root.querySelector('textarea')
    const at = area.selectionStart
    const before = area.value.slice(0, at)
    area.setRangeText(`${before && !/\s$/.test(before) ? ' ' : ''}${text}`, at, area.selectionEnd, 'end')
    area.dispatchEvent(new Event('input'))
    area.focus()
    this.#reveal()
  }

  #quit() {
    clearTimeout(this.timer)
    this.editing = null
    this.tell('typing', { text: null })
  }

  finish(s, n, text) {
    clearTimeout(this.timer)
    this.editing = null
    const x = this.sections[s].sentences[n]
    if (text.trim() && text.trim() !== x.text) this.#change(() => { x.text = text.trim(); x.state = 'edited' })
    else if (!x.text) this.#change(() => this.sections[s].sentences.splice(n, 1), false)
    else { this.tell('typing', { text: null }); this.draw() }
  }

  set(s, n, state) {
    const x = this.sections[s].sentences[n]
    if (!x || !this.data.may_edit) return
    if (x.state === 'edited' && state === 'accepted') return this.next(1) // an edit is its own acceptance
    this.#change(() => { x.state = state; if (state === 'rejected') this.#follow(x, this.sections[s].id) })
    this.next(1)
  }

  /** An impression does not outlive the last finding that it was drawn from; what a person wrote stays. */
  #follow(x, section) {
    const says = (y) => y.finding === x.finding && y.state !== 'rejected'
    if (!x.finding || section !== 'findings' || this.sections.some((z) => z.id === 'findings' && z.sentences.some(says))) return
    for (const z of this.sections) if (z.id === 'impression') z.sentences.filter((y) => says(y) && y.state !== 'edited').forEach((y) => { y.state = 'rejected' })
  }

  add(s) {
    const sentences = this.sections[s].sentences
    sentences.push({ text: '', finding: '', probability: null, modality: [], evidence: [], assertion: 'notice', state: 'edited', chips: [] })
    this.edit(s, sentences.length - 1)
  }

  move(s, n, by) {
    const sentences = this.sections[s].sentences
    if (n + by < 0 || n + by >= sentences.length) return
    this.#change(() => sentences.splice(n + by, 0, ...sentences.splice(n, 1)))
    this.at = [s, n + by]
    this.draw()
  }

  drop(s, n) {
    const [from, k] = this.dragged ?? []
    if (from !== s || k === n) return // a sentence stays in its section
    this.#change(() => this.sections[s].sentences.splice(n, 0, ...this.sections[s].sentences.splice(k, 1)))
  }

  #change(run, tell = true, back = false) {
    if (tell && !back) this.past = [...this.past.slice(1 - MOST_UNDONE), this.sections.map((x) => ({ ...structuredClone(x), sentences: structuredClone(x.sentences.filter((y) => y.text)) }))]
    run()
    this.draw()
    if (!tell) return
    if (this.serial !== null) { this.waiting = true; this.#unsaved() } // one at a time: each change goes on top of the revision before it
    else this.#send()
  }

  /** The report as it was before this person's last change: one more revision. */
  undo() {
    const before = this.data.may_edit && !this.editing && this.past.pop()
    if (!before) return
    this.#change(() => { this.sections = before }, true, true)
    this.#reveal()
  }

  #send() {
    this.waiting = false
    this.serial = nextSerial()
    this.#unsaved()
    this.sent = plain(this.sections)
    const sections = this.sections.map((x) => ({ id: x.id, sentences: x.sentences.filter((y) => y.text).map(({ chips, ...rest }) => rest) }))
    this.tell('changed', { revision: this.data.revision, sections, serial: this.serial })
  }

  /** Nothing is signed while a change has not reached the server: the page's style holds the buttons back. */
  #unsaved() {
    document.documentElement.toggleAttribute('data-unsaved', this.serial !== null || this.waiting)
  }

  next(by) {
    const every = this.sections.flatMap((x, s) => x.sentences.map((_, n) => [s, n]))
    const here = every.findIndex(([s, n]) => s === this.at[0] && n === this.at[1])
    const [s, n] = every[Math.max(0, Math.min(every.length - 1, here + by))]
    this.select(s, n)
    this.#reveal()
  }

  /** Bring the selected sentence into sight, in the report's own column. */
  #reveal() {
    const here = /** @type {HTMLElement | null} */ (this.root.querySelector('.here'))
    if (!here) return
    here.style.scrollMarginBottom = here.style.scrollMarginTop = '8px'
    const [top, bottom] = sight()
    here.scrollIntoView({ block: here.offsetHeight + 16 <= bottom - top ? 'nearest' : 'start' })
  }

  #inSight() {
    const box = this.root.querySelector('.here')?.getBoundingClientRect()
    const [top, bottom] = sight()
    return box && box.top >= top - 1 && box.top < bottom - 10
  }

  #key(event) {
    if (taken(event)) return
    if ((event.ctrlKey || event.metaKey) && event.key === 'z' && !(away() && !second)) { event.preventDefault(); this.undo() }
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const does = Object.entries(this.data.keys).find(([, key]) => key === event.key)?.[0]
    if (away() && !second) {
      if (ELSEWHERE.includes(does)) send('report', 'decide', does) // what is read there is decided there
    } else if (this.#decide(does)) event.preventDefault()
  }

  /** Move to a sentence, or decide on it; false where this is for nothing. */
  #decide(does) {
    const [s, n] = this.at
    if (does === 'next_sentence') this.next(1)
    else if (does === 'previous_sentence') this.next(-1)
    else if (!this.data.may_edit || !['accept', 'reject', 'edit'].includes(does)) return false
    else if (!this.#inSight()) this.#reveal() // nothing is decided on a sentence that cannot be read
    else if (does === 'accept') this.set(s, n, 'accepted')
    else if (does === 'reject') this.set(s, n, 'rejected')
    else this.edit(s, n)
    return true
  }

  /** In another place of the page, in the middle of what is being typed. */
  stand(parent) {
    parent.append(this.root)
    const area = this.root.querySelector('textarea')
    if (this.editing) area?.focus()
  }

  close() {
    document.documentElement.removeAttribute('data-unsaved')
    clearTimeout(this.timer)
    this.off.forEach((f) => f())
    this.root.remove()
  }
}

/** Put a macro's text in place of its name, which was typed as .name and a space; its first field is chosen. */
function expand(area, macros) {
  const typed = area.value.slice(0, area.selectionStart).match(/(?:^|\s)\.(\w+)\s$/)
  const text = typed && macros[typed[1]]
  if (!text) return
  const from = area.selectionStart - typed[1].length - 2
  area.setRangeText(text, from, area.selectionStart, 'end')
  area.setSelectionRange(from, from)
  if (!field(area, false)) area.setSelectionRange(from + text.length, from + text.length)
}

/** Choose the next field, such as [date]; false where there is none, and Tab leads out as ever. */
function field(area, back) {
  const spots = [...area.value.matchAll(/\[[^\]]*\]/g)].map((m) => [m.index, m.index + m[0].length])
  const next = back ? spots.filter(([a]) => a < area.selectionStart).pop() : spots.find(([a, b]) => a >= area.selectionEnd || (area.selectionStart === area.selectionEnd && a >= area.selectionStart))
  if (!next) return false
  area.setSelectionRange(next[0], next[1])
  return true
}

/** First and last pixel of the window between which the report is seen: it is scrolled in a column of its own. */
function sight() {
  const box = document.querySelector('.st-key-paper')?.closest('[data-testid=stColumn]')?.getBoundingClientRect()
  return [Math.max(0, box?.top ?? 0), Math.min(window.innerHeight, box?.bottom ?? window.innerHeight)]
}

/** What counts as the same report: words and states in their order. */
function plain(sections) {
  return JSON.stringify(sections.map((x) => [x.id, x.sentences.filter((y) => y.text).map((y) => [y.text, y.state])]))
}

/**
 * What was changed here while an answer was on its way, on top of what came back: another button may have changed the report meanwhile.
 * Null where sentences were added or taken out: then the two cannot be told apart sentence by sentence.
 */
function rebased(mine, sent, theirs) {
  const counts = (xs, of) => xs.map((x) => of(x).length).join()
  const here = (x) => x.sentences
  if (counts(mine, here) !== counts(theirs, here) || counts(mine, here) !== counts(sent, (x) => x[1])) return null
  return theirs.map((section, s) => ({
    ...section,
    sentences: section.sentences.map((y, n) => {
      const x = mine[s].sentences[n]
      const [text, state] = sent[s][1][n]
      return x.text === text && x.state === state ? structuredClone(y) : x
    }),
  }))
}
