/** The images of a case: panes by modality, tools, layouts, and jumps to evidence from anywhere on the page. */

import { bus, h, hear, typing } from './dom.js'
import { Pane } from './pane.js'
import { Stack } from './stack.js'

const TOOLS = [['navigate', '✛', 'c'], ['window', '◐', 'w'], ['pan', '✥', 'g'], ['distance', '↔', 'd'], ['roi', '◯', 'o']]
const kept = { case: null, stacks: new Map() } // pixels cross the wire once: they outlive a rerun of the page

export class Reader {
  constructor(root, data, tell) {
    Object.assign(this, { data, tell, words: data.words, tool: 'navigate', opacity: 1, smooth: true, flipped: false, evidence: true, crosshairOn: false })
    Object.assign(this, { crosshairs: new Map(), windows: new Map(), layout: 'side', flash: null, places: data.places, measurements: [...data.measurements] })
    if (kept.case !== data.case_key) Object.assign(kept, { case: data.case_key, stacks: new Map() })
    this.panes = ['US', 'CT', 'MR'].map((m) => new Pane(this, m))
    this.current = this.panes.find((p) => p.stack) ?? this.panes[0]
    this.toolbar = h('nav', { class: 'toolbar' })
    this.board = h('div', { class: 'board' })
    this.note = h('p', { class: 'note', hidden: true })
    this.root = h('div', { class: 'reader', 'data-case': data.case_id }, this.toolbar, this.note, this.board)
    root.append(this.root)
    this.#bar()
    this.arrange()
    this.off = [
      hear(bus, 'jump', (e) => this.jump(e.detail)),
      hear(document, 'keydown', (e) => this.#key(e)),
    ]
    this.openOn()
  }

  /** New words, places or measurements from Python; images of the same case stay as they are. */
  update(data) {
    this.data = data
    this.words = data.words
    this.places = data.places
    this.measurements = [...data.measurements]
    kept.stacks.forEach((stack) => { stack.meta.url = data.images[stack.meta.index].url })
    this.#bar()
    this.panes.forEach((p) => p.rebuild())
    this.note.hidden = true
  }

  stackOf(index) {
    if (!kept.stacks.has(index)) kept.stacks.set(index, new Stack({ ...this.data.images[index] }))
    return kept.stacks.get(index)
  }

  /** Each modality opens on its strongest evidence, without a flash. */
  openOn() {
    for (const pane of this.panes) {
      const place = this.places.find((p) => this.data.images[p.image]?.modality === pane.modality && p.lesion)
      if (!place) continue
      pane.pick(place.image)
      pane.goTo(place.centre)
      pane.rebuild()
    }
  }

  jump(place) {
    const image = this.data.images[place.image]
    const pane = image && this.panes.find((p) => p.modality === image.modality)
    if (!pane) return
    this.activate(pane)
    this.flash = place.id ?? null
    if (pane.meta.index !== place.image) pane.show(place.image)
    pane.viewports.forEach((v) => v.reset())
    pane.goTo(place.centre)
    this.arrange()
    clearTimeout(this.fade)
    this.fade = setTimeout(() => { this.flash = null; this.panes.forEach((p) => p.draw()) }, 1500)
  }

  /** Whoever shares the frame of reference follows; who does not stays where it is. */
  moved(pane) {
    const frame = pane.meta.frame_of_reference
    for (const p of this.panes) if (p === pane || (frame && p.meta?.frame_of_reference === frame)) p.draw()
  }

  activate(pane) {
    if (this.current === pane) return
    this.current = pane
    this.panes.forEach((p) => p.element.classList.toggle('active', p === pane))
    if (this.layout === 'one') this.arrange()
  }

  arrange() {
    const shown = this.layout === 'one' ? [this.current] : this.panes
    const open = shown.filter((p) => p.stack)
    this.board.className = `board ${this.layout}`
    this.board.style.setProperty('--columns', shown.map((p) => (p.stack ? (p.mode === 'mpr' && open.length > 1 ? '1.8fr' : '1fr') : this.layout === 'one' ? '1fr' : 'minmax(120px, .3fr)')).join(' '))
    this.board.replaceChildren(...shown.map((p) => p.element))
    shown.forEach((p) => p.draw())
  }

  setLayout(layout) {
    this.layout = layout
    this.current.mode = layout === 'one' && this.current.meta?.exact ? 'mpr' : 'axial'
    this.current.rebuild()
    this.#bar()
    this.arrange()
  }

  measured(found) {
    this.measurements.push(found)
    this.tell('measured', { ...found, serial: Date.now() })
  }

  failed() {
    this.note.hidden = false
    this.note.textContent = this.words.pixels_failed
    this.tell('expired', Date.now())
  }

  #bar() {
    const { words } = this
    const toggle = (name, label, hint, on) => h('button', { class: on ? 'on' : '', title: hint, 'data-action': name, onclick: () => this.act(name) }, label)
    this.toolbar.replaceChildren(
      h('span', { class: 'group' }, TOOLS.map(([name, icon, key]) => h('button', { class: this.tool === name ? 'on' : '', 'data-tool': name, title: `${words.tools[name]} (${key})`, onclick: () => this.act(name) }, icon, h('span', {}, words.tools[name])))),
      h('span', { class: 'group' }, toggle('side', words.side_by_side, words.side_by_side, this.layout === 'side'), toggle('one', words.one, words.one, this.layout === 'one')),
      h('span', { class: 'group' }, toggle('evidence', words.evidence, `${words.evidence} (b)`, this.evidence),
        h('input', { type: 'range', min: 0.1, max: 1, step: 0.1, value: String(this.opacity), title: words.opacity, 'aria-label': words.opacity, oninput: (e) => { this.opacity = Number(e.target.value); this.panes.forEach((p) => p.draw()) } }),
        toggle('crosshair', words.crosshair, words.crosshair, this.crosshairOn), toggle('flip', words.flip, words.flip_hint, this.flipped), toggle('reset', words.reset, `${words.reset} (0)`, false)),
    )
  }

  act(name) {
    if (TOOLS.some(([tool]) => tool === name)) this.tool = name
    else if (name === 'side' || name === 'one') return this.setLayout(name)
    else if (name === 'evidence') this.evidence = !this.evidence
    else if (name === 'crosshair') this.crosshairOn = !this.crosshairOn
    else if (name === 'flip') this.flipped = !this.flipped
    else if (name === 'reset') this.panes.forEach((p) => p.viewports.forEach((v) => v.reset()))
    this.#bar()
    this.panes.forEach((p) => p.draw())
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event)) return
    const { key } = event
    const tool = TOOLS.find(([, , k]) => k === key)
    if (tool) this.act(tool[0])
    else if (key === 'b') this.act('evidence')
    else if (key === '0') this.act('reset')
    else if (['1', '2', '3'].includes(key)) this.activate(this.panes[Number(key) - 1])
    else if (!this.current.stack) return
    else if (key === 'ArrowUp' || key === 'ArrowDown') this.current.step('axial', key === 'ArrowUp' ? 1 : -1)
    else if (key === ' ' && this.current.meta.kind === 'cine') this.current.play()
    else return
    event.preventDefault()
  }

  close() {
    this.off.forEach((f) => f())
    this.panes.forEach((p) => p.close())
    this.root.remove()
  }
}
