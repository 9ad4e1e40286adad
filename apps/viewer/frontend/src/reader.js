/** The images of a case: a grid of viewports, tools, hanging protocols, and jumps to evidence from anywhere on the page. */

import { Divider } from './desk.js'
import { bus, h, hear, reopened, taken } from './dom.js'
import { across } from './frames.js'
import { KeyPage } from './help.js'
import { bestGrid, cellsOf, hangingOf } from './hang.js'
import { keyOf, Marks } from './marks.js'
import { nextSerial, Outbox } from './outbox.js'
import { Outline } from './outline.js'
import { Pane } from './pane.js'
import { voxelAt } from './plane.js'
import { apply, Stack } from './stack.js'
import { present, watch } from './states.js'
import { Strip } from './strip.js'
import { Structure } from './structure.js'
import { TagPage } from './tags.js'
import { apart, away, send } from './together.js'
import { SHAPES, TOOLS, toolbar } from './toolbar.js'

const KEY_TURN = 20 // of turning a plane by a key, in pixels of a pointer: 5 degrees
const EMPTY = { index: null, plane: 'axial', window: '' }
const kept = { case: null, stacks: new Map() } // pixels cross the wire once: they outlive a rerun of the page

export class Reader {
  /**
   * @param {HTMLElement} root
   * @param {import('../contract.js').ReaderData} data
   * @param {(event: string, value: import('../contract.js').Measured | import('../contract.js').Hung | import('../contract.js').Keyed | import('../contract.js').TagsAsked | import('../contract.js').Windowed | import('../contract.js').Asked) => void} tell
   */
  constructor(root, data, tell) {
    this.data = data
    this.tell = tell
    this.words = data.words
    this.images = data.images
    this.places = data.places
    this.shape = 'outline' // how evidence is drawn where its outline is known
    this.outlines = new WeakMap()
    /** @type {Map<string, Structure>} */
    this.structures = new Map() // of others, by id
    this.outbox = new Outbox((drawings) => tell('measured', { drawings }))
    this.marks = new Marks(this)
    this.tool = 'navigate'
    this.opacity = 1
    this.smooth = true
    this.flipped = false
    this.evidence = true
    this.crosshairOn = false
    this.referenceOn = true
    this.overlays = true
    this.single = false // one viewport alone, the others wait
    /** @type {{ pane: Pane, mode: string }} */
    this.alone = { pane: /** @type {any} */ (null), mode: 'axial' } // which, and what it showed before
    this.linked = false
    this.rows = 1
    this.columns = 1
    this.automatic = true // rows and columns follow the window's form
    this.hangingAt = 0
    this.fittedTo = 0
    /** @type {Map<string, number[]>} */
    this.crosshairs = new Map() // in mm, by frame of reference
    /** @type {Map<number, number[]>} */
    this.windows = new Map() // by image, where somebody chose one
    /** @type {Map<Pane, number[]>} */
    this.anchors = new Map() // where each viewport stood when scrolling was linked
    this.frame = frame(data)
    /** @type {string[]} */
    this.missed = [] // keys that were pressed while the reader stood nowhere
    /** @type {string | null} */
    this.flash = null
    /** @type {import('../contract.js').Spot | null} */
    this.marked = null // where the last jump led, until the next one
    if (kept.case !== data.case_key) Object.assign(kept, { case: data.case_key, stacks: new Map() })
    /** @type {Pane[]} */
    this.panes = []
    this.bar = h('nav', { class: 'toolbar' })
    this.board = h('div', { class: 'board' })
    this.note = h('p', { class: 'note', hidden: true })
    this.strip = new Strip(this)
    this.divider = new Divider(data.words.divider)
    this.keyPage = new KeyPage(this)
    this.tagPage = new TagPage(this)
    this.root = h('div', { class: 'reader', 'data-case': data.case_id }, this.bar, this.note, this.strip.element, this.board, this.marks.element, this.divider.element, this.keyPage.element, this.tagPage.element)
    root.append(this.root)
    this.off = [hear(bus, 'jump', (e) => this.jump(e.detail)), hear(bus, 'apart', (e) => this.#apart(e.detail)), hear(bus, 'asked', (e) => e.detail !== data.case_id && send('report', 'case', data.case_id)), hear(document, 'keydown', (e) => this.#key(e)), watch(() => this.draw()), hear(bus, 'state', (e) => present(this, e.detail))]
    this.observer = new ResizeObserver(() => this.automatic && !this.single && this.board.clientWidth !== this.fittedTo && this.#refit())
    this.observer.observe(this.board)
    this.hang(0)
    this.marks.take(data.measurements, [])
    if (data.prior_open) this.#besidePrior()
    this.tagPage.take(data.tags)
  }

  /**
   * New words, places or measurements from Python; images of the same case stay as they are.
   * @param {import('../contract.js').ReaderData} data
   */
  update(data) {
    const prior = data.prior_open !== this.data.prior_open
    this.data = data
    this.words = data.words
    this.images = data.images
    this.places = data.places
    this.marks.take(data.measurements, this.outbox.answered(data.taken))
    kept.stacks.forEach((stack, index) => { if (data.images[index]) stack.meta.url = data.images[index].url })
    if (frame(data) !== this.frame) {
      this.frame = frame(data)
      this.strip.draw()
      this.panes.forEach((p) => p.rebuild())
    } else this.panes.forEach((p) => { p.fetch(); p.draw() }) // such as after a measurement: zoom, pan and 3D stay
    if (prior && data.prior_open) this.#besidePrior()
    else if (prior) {
      this.linked = false // it was for the earlier study
      this.hang(this.hangingAt)
    }
    this.drawBar()
    this.tagPage.take(data.tags)
    this.note.hidden = true
  }

  stackOf(index) {
    if (!kept.stacks.has(index)) kept.stacks.set(index, new Stack({ ...this.images[index] }))
    return kept.stacks.get(index)
  }

  /** From the mm of one frame of reference to those of another one, and who says so. */
  across(from, to) {
    return across(this.data.links ?? [], from, to)
  }

  /** The crosshair stands there, in this frame of reference and in those that lie on it. */
  stands(frame, mm) {
    this.crosshairs.set(frame, mm)
    for (const other of new Set(this.images.map((i) => i.frame_of_reference))) {
      const way = other !== frame && this.across(frame, other)
      if (way) this.crosshairs.set(other, apply(way.matrix, mm))
    }
  }

  /** The voxels of a place whose outline is known, read once. */
  outlineOf(place) {
    if (!place.runs?.length) return null
    if (!this.outlines.has(place)) this.outlines.set(place, new Outline(place))
    return this.outlines.get(place)
  }

  /** The voxels of what others outlined; null until they have arrived. @param {import('../contract.js').DrawnStructure} one */
  structureOf(one) {
    if (!this.structures.has(one.id)) this.structures.set(one.id, new Structure(one))
    const found = this.structures.get(one.id)
    found?.load(this.images[one.image].url, () => this.draw())
    return found?.bits ? found : null
  }

  /** Each series opens on its strongest evidence, without a flash. */
  placeOf(index) {
    return this.places.find((p) => p.image === index && p.lesion)?.centre
  }

  /** Hang the study after the n-th protocol. */
  hang(n) {
    this.hangingAt = n
    const hanging = this.data.hangings[n] ?? { name: 'auto', title: '', rows: 0, columns: 0, cells: [] }
    const cells = cellsOf(hanging, this.images, this.data.modalities)
    if (!hanging.cells.length) cells.forEach((c) => { c.index = this.#telling(c.index) })
    this.automatic = !hanging.rows || !hanging.columns
    this.#grid(hanging.rows, hanging.columns, cells.length ? cells : [EMPTY])
  }

  /** Of a modality the series with evidence, else the one given. */
  #telling(index) {
    const { modality } = this.images[index]
    return this.places.find((p) => p.lesion && this.images[p.image]?.modality === modality)?.image ?? index
  }

  setGrid(rows, columns) {
    this.automatic = false
    const before = this.panes.map((p) => ({ index: p.meta?.index ?? null, plane: p.mode, window: p.preset ?? '' }))
    const shown = new Set(before.map((c) => c.index))
    const others = this.images.filter((i) => !shown.has(i.index)).map((i) => ({ ...EMPTY, index: i.index }))
    this.#grid(rows, columns, [...before, ...others].slice(0, rows * columns))
  }

  #grid(rows, columns, cells) {
    this.single = false
    this.panes.forEach((p) => p.close())
    const all = [...cells, ...Array(Math.max(0, rows * columns - cells.length)).fill(EMPTY)]
    ;[this.rows, this.columns] = [rows, columns]
    this.panes = []
    for (const cell of all) this.panes.push(new Pane(this, cell))
    this.current = this.panes.find((p) => p.stack) ?? this.panes[0]
    if (this.automatic) this.#fitted()
    this.arrange()
    this.hung()
  }

  /** As many rows and columns as leave the viewports largest. */
  #fitted() {
    const { clientWidth: width, clientHeight: height } = this.board
    this.fittedTo = width // a list that opens below moves no viewport
    ;[this.rows, this.columns] = bestGrid(this.panes.length, width || 1200, height || 800)
  }

  #refit() {
    const was = this.gridName
    this.#fitted()
    if (was === this.gridName) return
    this.arrange()
    this.drawBar() // which names it
  }

  get gridName() {
    return `${this.rows}×${this.columns}`
  }

  /** A series into a viewport, the active one where none is named. */
  put(index, pane = this.current) {
    this.activate(pane)
    pane.show(index)
  }

  /** Current to the left, the earlier study's series of the same modality to the right. */
  #besidePrior() {
    const { modality, index } = this.current.meta ?? this.images[0]
    const old = this.images.filter((i) => i.prior)
    const same = old.find((i) => i.modality === modality && i.role === this.images[index].role) ?? old.find((i) => i.modality === modality) ?? old[0]
    if (!same) return
    this.automatic = false
    const at = this.current.meta ? this.current.position()[2] / this.current.meta.shape[2] : 0.5
    this.#grid(1, 2, [{ ...EMPTY, index }, { ...EMPTY, index: same.index }])
    const [now, before] = this.panes
    now.place([...now.position().slice(0, 2), at * now.meta.shape[2]])
    before.place([...before.position().slice(0, 2), at * before.meta.shape[2]]) // no frame of reference says better
    this.linked = true
    this.#anchor()
    this.drawBar()
    this.draw()
  }

  /** @param {import('../contract.js').Spot} place */
  jump(place) {
    const image = this.images[place.image]
    if (!image) return
    const pane = this.panes.find((p) => p.meta?.index === place.image) ?? this.panes.find((p) => p.modality === image.modality && !p.meta.prior) ?? this.current
    this.activate(pane)
    this.flash = place.id ?? null
    const structure = this.data.structures?.some((p) => p.id === place.id)
    const known = this.places.find((p) => p.id === place.id)
    this.marked = known || structure ? null : place // a box of a finding, beside those of lesions
    if (pane.meta?.index !== place.image) pane.show(place.image)
    if (!structure && (!known?.runs?.length || this.shape === 'box')) pane.tilt = null // a box has no sides on a turned plane
    pane.viewports.forEach((v) => v.reset())
    pane.goTo(place.centre)
    if (this.single) this.arrange()
    clearTimeout(this.fade)
    this.fade = setTimeout(() => { this.flash = null; this.draw() }, 1500)
  }

  /** Whoever shares the frame of reference follows, or lies on it by a registration, and who is linked; others stay where they are. */
  moved(pane) {
    const frame = pane.meta.frame_of_reference
    const [lead, first] = [pane.stack.toMm(pane.position()), this.anchors.get(pane)]
    for (const p of this.panes) {
      const same = p.meta && this.across(frame, p.meta.frame_of_reference)
      const stood = this.anchors.get(p)
      if (this.linked && p !== pane && !same && lead && first && stood) p.place(p.stack.toVoxel(stood.map((v, i) => v + lead[i] - first[i])))
      if (p === pane || same || this.linked) p.draw()
    }
  }

  #anchor() {
    this.anchors = new Map()
    for (const p of this.panes) {
      const mm = p.stack?.toMm(p.position())
      if (mm) this.anchors.set(p, mm)
    }
  }

  activate(pane) {
    if (!pane || this.current === pane) return
    this.current = pane
    this.panes.forEach((p) => p.element.classList.toggle('active', p === pane))
    if (this.single) this.arrange()
    else this.draw() // the lines that say where its plane is
  }

  arrange() {
    const shown = this.single ? [this.current] : this.panes
    const [rows, columns] = this.single ? [1, 1] : [this.rows, this.columns]
    this.board.className = `board ${this.single ? 'one' : ''}`
    this.board.style.gridTemplate = `repeat(${rows}, minmax(0, 1fr)) / repeat(${columns}, minmax(0, 1fr))`
    const left = rows * columns - shown.length
    shown.forEach((p, n) => { p.element.style.gridColumn = n === shown.length - 1 && left > 0 ? `span ${left + 1}` : '' })
    this.board.replaceChildren(...shown.map((p) => p.element))
    shown.forEach((p) => p.draw())
  }

  /** Other series stand in the viewports now. */
  hung() {
    this.strip.mark()
    if (this.linked) this.#anchor()
    this.drawBar()
  }

  measured(found) {
    if (this.images[found.image].prior) return this.#say(this.words.prior_measure)
    if (found.kind === 'arrow') return this.#askWords(found)
    this.marks.add(found)
  }

  /** An arrow says what the reader writes beside it. */
  #askWords(arrow) {
    this.#ask(this.words.arrow_words, '120', (text) => this.marks.add({ ...arrow, text }))
  }

  /** The window of a viewport by a name, for every series of its modality that this person reads. */
  keepWindow(pane) {
    this.#ask(this.words.window_name, '40', (name) => name && this.tellWindow(pane.modality, name, pane.window))
  }

  tellWindow(modality, name, window) {
    this.tell('windowed', { serial: nextSerial(), modality, name, window })
  }

  /** Words in the line above the images, then Enter. */
  #ask(label, longest, done) {
    const end = () => { this.note.hidden = true; this.note.replaceChildren() }
    const field = h('input', { 'aria-label': label, placeholder: label, maxlength: longest, onkeydown: (e) => {
      e.stopPropagation()
      if (e.key === 'Enter' && !e.isComposing) { const text = field.value.trim(); end(); done(text) }
      if (e.key === 'Escape') end()
    } })
    this.note.hidden = false
    this.note.replaceChildren(field)
    field.focus()
  }

  choose(mark) {
    this.marks.chosen = mark && keyOf(mark)
    this.marks.draw()
    this.draw()
  }

  /** Lead to a mark: its series, its slice. */
  show(mark) {
    const on = this.panes.filter((p) => p.meta?.index === mark.image)
    const pane = on.find((p) => p.mode === mark.plane && !p.tilt) ?? on[0] ?? this.current
    this.activate(pane)
    if (pane.meta?.index !== mark.image) pane.show(mark.image)
    if (pane.mode !== 'mpr' && pane.mode !== mark.plane) pane.setMode(mark.plane)
    if (mark.turned && pane.mode === 'mpr') pane.setMode(mark.plane)
    pane.turnAs(mark)
    pane.goTo(mark.turned ? this.#within(pane, mark) : this.#over(pane, mark))
    pane.viewports.find((v) => v.plane === mark.plane)?.reveal(mark.points ?? [])
  }

  /** The voxel in the slice of a mark that lies where the crosshair is. */
  #over(pane, mark) {
    const at = [...pane.position()]
    at[{ axial: 2, coronal: 1, sagittal: 0 }[mark.plane]] = mark.slice
    return at
  }

  /** The middle of what was measured on a turned plane, which is none of the stack's. */
  #within(pane, mark) {
    const [u, v] = [0, 1].map((i) => mark.points.reduce((sum, p) => sum + p[i], 0) / mark.points.length - 0.5)
    return apply(pane.tilt.to, voxelAt(pane.stack, mark.plane, mark.slice, u, v))
  }

  #say(text) {
    this.note.hidden = false
    this.note.textContent = text
  }

  failed(_problem) {
    this.#say(this.words.pixels_failed)
    this.tell('expired', { serial: nextSerial() })
  }

  drawBar() {
    this.bar.replaceChildren(...toolbar(this))
  }

  draw() {
    this.panes.forEach((p) => p.draw())
  }

  act(name) {
    const flags = { evidence: 'evidence', crosshair: 'crosshairOn', reference: 'referenceOn', overlay: 'overlays', flip: 'flipped', link: 'linked' }
    const pane = this.current
    const acts = {
      one: () => this.#alone(),
      ...this.#turns(pane),
      reset: () => this.panes.forEach((p) => { p.turn = 0; p.tilt = null; p.viewports?.forEach((v) => v.reset()) }),
      prior: () => this.data.prior_date && this.tell('prior', { serial: nextSerial() }),
      save: () => this.tell('hung', { serial: nextSerial(), hanging: hangingOf(this.rows, this.columns, this.panes.slice(0, 9), this.images) }),
      evidence_shape: () => { this.shape = SHAPES[(SHAPES.indexOf(this.shape) + 1) % SHAPES.length] },
      second: () => apart(this.data.case_id),
      full: () => { document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen() },
      undo: () => this.marks.undo(),
      redo: () => this.marks.redo(),
      delete: () => this.marks.removeChosen(),
      key_image: () => pane.meta && (pane.meta.prior || pane.tilt ? this.#say(pane.tilt ? this.words.oblique_measure : this.words.prior_measure) : this.marks.key(pane.keyView())),
      rotate: () => { pane.turn = (pane.turn + 1) % 4 },
      invert: () => pane.meta && pane.invert(),
      help: () => this.keyPage.toggle(),
      tags: () => pane.meta && this.tagPage.ask(pane.meta.index, pane.indexOf('axial')),
      up: () => pane.scroll(pane.plane, -1),
      down: () => pane.scroll(pane.plane, 1),
      play: () => pane.meta?.kind === 'cine' && pane.play(),
    }
    const preset = /^window_(\d)$/.exec(name)
    if (TOOLS[name]) this.tool = name
    else if (flags[name]) this[flags[name]] = !this[flags[name]]
    else if (preset) this.#preset(Number(preset[1]) - 1)
    else if (acts[name]) acts[name]()
    else return false
    if (name === 'link') this.#anchor()
    if (!['up', 'down', 'play'].includes(name)) { this.drawBar(); this.draw() }
    return true
  }

  /** Keys that turn the plane of the active viewport. */
  #turns(pane) {
    const by = { tilt_left: [-KEY_TURN, 0], tilt_right: [KEY_TURN, 0], tilt_up: [0, -KEY_TURN], tilt_down: [0, KEY_TURN] }
    return Object.fromEntries(Object.entries(by).map(([name, [across, down]]) => [name, () => pane.turnBy(across, down)]))
  }

  /** The plane of a viewport is turned: it and the lines on the others are drawn anew. */
  turned(pane) {
    pane.fetch()
    this.draw()
  }

  /** The report went into a window of its own, or came back: what was done to it there is fetched. */
  #apart(gone) {
    this.divider.fit()
    this.drawBar()
    if (!gone) this.tell('refresh', { serial: nextSerial() })
  }

  refuse(text) {
    this.#say(text)
  }

  #preset(n) {
    const name = Object.keys(this.current.meta ? this.current.presets : {})[n]
    if (name) this.current.setPreset(name)
  }

  /** The active viewport alone, with all its planes, and back. */
  #alone() {
    this.single = !this.single
    if (this.single) this.alone = { pane: this.current, mode: this.current.mode }
    const { pane, mode } = this.alone
    pane.mode = this.single && pane.meta?.exact ? 'mpr' : mode
    pane.tilt = null
    pane.rebuild()
    this.arrange()
  }

  /** In another place of the page, with all that is open; keys that were pressed on the way there come after. */
  stand(parent) {
    parent.append(this.root)
    this.keyPage.stand()
    reopened(this.tagPage.element)
    this.divider.watch()
    for (const key of this.missed.splice(0)) this.#press(key)
    this.draw()
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || taken(event)) return
    if (!this.root.isConnected) this.missed.push(event.key)
    else if (this.#press(event.key)) event.preventDefault()
  }

  /** Do what the key is for; false where it is for nothing. */
  #press(key) {
    if (this.keyPage.element.open) return this.keyPage.press(key)
    if (this.tagPage.element.open) return false
    const does = Object.entries(this.data.keys).find(([, k]) => k === key)?.[0]
    if (key === 'Escape') this.panes.forEach((p) => p.viewports?.forEach((v) => v.quit()))
    else if (/^[1-9]$/.test(key)) this.activate(this.panes[Number(key) - 1])
    else if (does === 'play' && this.current.meta?.kind !== 'cine') return false
    else if (!does || !this.act(does)) return false
    return true
  }

  close() {
    this.off.forEach((f) => f())
    this.observer.disconnect()
    this.divider.close()
    this.outbox.close()
    clearTimeout(this.fade)
    this.panes.forEach((p) => p.close())
    this.root.remove()
  }
}

/** What the viewports are built from: another one needs other lists, labels and badges. */
function frame({ words, states, images, windows = {}, may_save = false, links = [] }) {
  return JSON.stringify([words, states, windows, may_save, links, images.map((i) => [i.series_uid, i.prior])])
}
