/** One viewport of the grid: a series, its window and colours, one plane or three with a rendering, and the cine's player. */

import { choose, h } from './dom.js'
import { keyOf } from './marks.js'
import { Tilt } from './oblique.js'
import { MAP_NAMES, meeting, PLANES, shapeOf } from './plane.js'
import { SLABS, slabValue, THICKNESS, valueOn } from './slab.js'
import { apply, invert } from './stack.js'
import { isDrawn, marksOn } from './states.js'
import { SERIES } from './strip.js'
import { Viewport } from './viewport.js'

const AXIS = { axial: 2, coronal: 1, sagittal: 0 }
const DEGREES = 0.25 // that a turned plane turns a pixel
const SPEEDS = [0.25, 0.5, 1, 2]

export class Pane {
  /**
   * @param {import('./reader.js').Reader} reader
   * @param {{ index: number | null, plane: string, window: string }} cell what stands here at first
   */
  constructor(reader, cell) {
    this.reader = reader
    this.map = 'grey'
    /** @type {{ kind: string, mm: number } | null} */
    this.slab = null // of the planes, where several are shown as one
    /** @type {{ stack: any, preset: string, window: number[], map: string, opacity: number, matrix: number[][], by: string } | null} */
    this.fused = null // what lies over the planes in colour
    this.turn = 0 // quarter turns clockwise
    /** @type {Tilt | null} */
    this.tilt = null // of the plane, where it is turned out of the stack's directions
    this.speed = 1
    this.playing = false
    this.mode = cell.plane
    this.preset = cell.window
    /** @type {Record<number, number[]>} */
    this.own = {} // where each series stands
    this.element = h('section', { class: 'pane', onpointerenter: () => reader.activate(this),
      ondragover: (e) => { if (e.dataTransfer.types.includes(SERIES)) e.preventDefault() },
      ondrop: (e) => { const dropped = e.dataTransfer.getData(SERIES); if (dropped !== '') { e.preventDefault(); reader.put(Number(dropped), this) } } })
    if (cell.index !== null) this.pick(cell.index)
    this.rebuild()
  }

  // what a viewport asks of its host
  get words() { return this.reader.words }
  get tool() { return this.reader.tool }
  get opacity() { return this.reader.opacity }
  get shape() { return this.reader.shape }
  get overlays() { return this.reader.overlays }
  get smooth() { return this.reader.smooth }
  get flipped() { return this.reader.flipped }
  get crosshair() { return this.meta?.kind === 'volume' && (this.mode === 'mpr' || this.reader.crosshairOn) }
  get meta() { return this.stack?.meta }
  get whose() { return (this.meta?.prior && this.reader.data.earlier) || this.reader.data.whose }
  get modality() { return this.meta?.modality ?? '' }
  get plane() { return this.mode === 'mpr' ? 'axial' : this.mode }

  pick(index) {
    this.stack = this.reader.stackOf(index)
    const { presets } = this
    if (this.meta.kind !== 'volume' || !this.meta.exact) this.slab = null
    if (!this.#partners().some((i) => i.index === this.fused?.stack.meta.index)) this.fused = null
    this.tilt = null
    this.preset = presets[this.preset] ? this.preset : Object.keys(presets)[0]
    this.window = [...(this.reader.windows.get(index) ?? presets[this.preset] ?? Object.values(presets)[0])]
    this.own[index] ??= this.reader.placeOf(index) ?? this.meta.shape.map((n) => Math.floor(n / 2))
    this.element.dataset.modality = this.modality
    this.stop()
  }

  /** Windows of the modality, and this person's own after them. */
  get presets() {
    return { ...this.meta.presets, ...this.reader.data.windows?.[this.modality] }
  }

  /** Series that can lie over this one: volumes of another modality in its frame of reference, or in one that lies on it. */
  #partners() {
    const { meta } = this
    if (meta.kind !== 'volume' || !meta.frame_of_reference || !this.stack.inverse) return []
    const found = this.reader.images.filter((i) => i.kind === 'volume' && i.affine && i.modality !== meta.modality && this.#onto(i))
    return found.sort((a, b) => Number(b.modality === 'PT') - Number(a.modality === 'PT')) // PET is what lies over others
  }

  /** From this series to another one in mm; null where nobody knows. */
  #onto(image) {
    return this.reader.across(this.meta.frame_of_reference, image.frame_of_reference)
  }

  /** Lay a series over the planes, or take it away. */
  fuse(index) {
    if (index === null) this.fused = null
    else {
      const stack = this.reader.stackOf(index)
      const [preset] = Object.keys(stack.meta.presets)
      this.fused = { stack, preset, window: [...stack.meta.presets[preset]], map: 'hot', opacity: 0.6, matrix: [], by: '' }
    }
    this.rebuild()
  }

  /** Where the crosshair is, in voxels of the series shown. Series of one frame of reference share it in mm. */
  position() {
    const mm = this.meta.frame_of_reference && this.reader.crosshairs.get(this.meta.frame_of_reference)
    if (mm && this.stack.inverse) {
      const at = this.stack.toVoxel(mm).map(Math.round)
      if (at.every((v, i) => v >= 0 && v < this.meta.shape[i])) return at
    }
    return this.own[this.meta.index]
  }

  /** Where the crosshair is, between voxels where the plane is turned. */
  #exactly() {
    const mm = (this.meta.frame_of_reference && this.reader.crosshairs.get(this.meta.frame_of_reference)) || this.exact
    return mm ? this.stack.toVoxel(mm) : this.position()
  }

  indexOf(plane) {
    if (this.tilt?.plane === plane) return this.#tiltedIndex()
    const [x, y, z] = this.position()
    return plane === 'coronal' ? y : plane === 'sagittal' ? x : z
  }

  #tiltedIndex() {
    const n = Math.round(apply(this.tilt.back, this.#exactly())[AXIS[this.tilt.plane]])
    return Math.max(0, Math.min(shapeOf(this.stack, this.tilt.plane).count - 1, n))
  }

  /** To plane number n, and nowhere else in it. */
  goToPlane(plane, n) {
    const at = this.tilt?.plane === plane ? apply(this.tilt.back, this.#exactly()) : [...this.position()]
    at[AXIS[plane]] = Math.max(0, Math.min(shapeOf(this.stack, plane).count - 1, n))
    this.goTo(this.tilt?.plane === plane ? apply(this.tilt.to, at) : at)
  }

  /** Turn the plane out of the stack's directions by the way of a pointer, in pixels. */
  turnBy(across, down) {
    if (!this.stack?.affine || !this.meta.exact || this.meta.kind !== 'volume' || this.mode === 'mpr') return
    this.tilt ??= new Tilt(this.stack, this.mode, this.#exactly())
    this.tilt.turn(true, across * DEGREES)
    this.tilt.turn(false, -down * DEGREES)
    this.reader.turned(this)
  }

  /** Turn the plane as it was for a measurement, or back. */
  turnAs(mark) {
    this.tilt = mark.turned ? Tilt.of(this.stack, mark.plane, mark.turned) : null
  }

  /** What cannot be done on a turned plane. */
  refuse() {
    this.reader.refuse(this.words.oblique_measure)
  }

  goTo(voxel) {
    this.place(voxel)
    this.reader.moved(this)
  }

  /** Stand there, and tell nobody. */
  place(voxel) {
    const at = voxel.map((v, i) => Math.max(0, Math.min(this.meta.shape[i] - 1, Math.round(v))))
    this.own[this.meta.index] = at
    const mm = this.stack.toMm(this.tilt ? voxel : at)
    this.exact = mm
    if (mm && this.meta.frame_of_reference) this.reader.stands(this.meta.frame_of_reference, mm)
  }

  /**
   * So many planes on, by the wheel or a key: down leads to the feet in axial planes and to later frames in a cine, and onward (to the
   * back, to the left) in the other planes.
   */
  scroll(plane, down) {
    if (!this.meta) return
    const feet = plane === 'axial' && this.meta.kind === 'volume'
    this.goToPlane(plane, this.indexOf(plane) + (feet ? -down : down))
  }

  setPreset(name) {
    this.preset = name
    this.window = [...this.presets[name]]
    this.reader.windows.delete(this.meta.index)
    const list = this.#windows()
    this.presetList.replaceWith(list)
    this.presetList = list
    this.draw()
  }

  setWindow(window) {
    this.window = window
    this.preset = ''
    this.reader.windows.set(this.meta.index, window)
    this.presetList.value = ''
    this.draw()
  }

  hover(voxel, plane = 'axial') {
    if (!this.readout || !this.stack) return
    const value = voxel && (this.slab && !this.tilt ? slabValue(this.stack, plane, voxel, this.slab) : this.stack.value(...voxel))
    const over = voxel && this.fused && valueOn(this.stack, this.fused, voxel)
    const mm = voxel && this.stack.toMm(voxel)
    const parts = []
    if (value !== null && value !== undefined) parts.push(`${Number.isInteger(value) ? value : value.toFixed(2)} ${this.meta.unit}`.trim())
    if (typeof over === 'number') parts.push(`${this.fused.stack.meta.modality} ${over.toFixed(2)} ${this.fused.stack.meta.unit}`.trim())
    if (mm) parts.push(`R${sign(mm[0])} A${sign(mm[1])} S${sign(mm[2])} mm`)
    this.readout.textContent = parts.join(' · ') || '\u00a0'
  }

  active() {
    this.reader.activate(this)
  }

  marks(plane, slice) {
    return this.reader.marks.on(this.meta.index, plane, slice, this.tilt?.told() ?? null)
  }

  /** What presentation states draw here. */
  stated(plane, slice) {
    return this.overlays ? marksOn(this.reader.data.presented ?? [], this.meta.index, plane, slice) : []
  }

  chosen = (mark) => keyOf(mark) === this.reader.marks.chosen

  choose(mark) {
    this.reader.choose(mark)
  }

  measured(found) {
    this.reader.measured({ ...found, image: this.meta.index, series_uid: this.meta.series_uid })
  }

  changed(before, after) {
    this.reader.marks.change(before, after)
  }

  /** The slice shown, to be kept as a key image. */
  keyView() {
    return { kind: 'key', image: this.meta.index, series_uid: this.meta.series_uid, plane: this.plane, slice: this.indexOf(this.plane), points: [], window: [...this.window], text: '' }
  }

  /** Grey the other way round, and back. */
  invert() {
    this.map = this.map === 'inverted' ? 'grey' : 'inverted'
    this.rebuild()
  }

  /** Evidence on this series: its own places, and those of other series that lie with it; has: whether a voxel of this one lies in it. */
  places() {
    if (!this.reader.evidence) return []
    const { places, marked } = this.reader
    const shown = marked && hasExtent(marked, this.reader.images[marked.image]) ? [...places, { ...marked, label: '' }] : places
    return shown.flatMap((p) => this.#seen(p, this.reader.outlineOf(p), { id: p.id, label: p.label, flash: this.reader.flash === p.id }))
  }

  /** What others outlined, on this series and on those that lie with it, as far as it is switched on: never evidence. */
  structures() {
    if (!this.overlays) return []
    const shown = (this.reader.data.structures ?? []).filter((s) => isDrawn(s.of) && isDrawn(s.id) && this.#reaches(s))
    return shown.flatMap((s) => this.#seen(s, this.reader.structureOf(s), { id: s.id, label: s.name, colour: s.colour, flash: this.reader.flash === s.id }))
  }

  #reaches({ image }) {
    return image === this.meta.index || Boolean(this.stack.inverse && this.reader.across(this.reader.images[image].frame_of_reference, this.meta.frame_of_reference))
  }

  /** A place with its outline in voxels of this series; none where it does not lie on it. has: whether a voxel lies in the outline. */
  #seen(p, outline, seen) {
    if (p.image === this.meta.index) return [{ ...seen, box: p.box, has: outline && ((voxel) => outline.has(voxel)) }]
    const other = this.reader.images[p.image]
    const way = this.stack.inverse && p.box_mm && this.reader.across(other.frame_of_reference, this.meta.frame_of_reference)
    if (!way) return []
    const corners = cornersOf(p.box_mm).map((mm) => this.stack.toVoxel(apply(way.matrix, mm)))
    const box = [Math.min, Math.max].map((f) => [0, 1, 2].map((i) => Math.round(f(...corners.map((c) => c[i])))))
    const back = outline && other.kind === 'volume' && other.affine && this.#into(other)
    return [{ ...seen, box, has: back && ((voxel) => outline.has(apply(back, voxel))) }]
  }

  /** From voxels of this series to those of another one that lies with it, (3 × 4). */
  #into(other) {
    const way = this.#onto(other)
    const inverse = invert(other.affine)
    const at = (voxel) => apply(inverse, apply(way.matrix, this.stack.toMm(voxel)))
    const origin = at([0, 0, 0])
    const axes = [[1, 0, 0], [0, 1, 0], [0, 0, 1]].map((v) => at(v).map((x, i) => x - origin[i]))
    return origin.map((o, i) => [axes[0][i], axes[1][i], axes[2][i], o])
  }

  /** Where the plane of the active viewport cuts this one, in pixels; null where it does not, or where nobody knows. */
  reference(plane, n) {
    const { current, referenceOn } = this.reader
    if (!referenceOn || current === this || !current?.stack?.affine || !this.stack.inverse) return null
    const way = this.reader.across(current.meta.frame_of_reference, this.meta.frame_of_reference)
    const other = { stack: current.stack, plane: current.plane, n: current.indexOf(current.plane), tilt: current.tilt }
    return way && meeting({ stack: this.stack, plane, n, tilt: this.tilt }, other, way.matrix)
  }

  /** Build the pane anew: after another series, layout, mode or language. The same image keeps its zoom, pan and 3D. */
  rebuild() {
    this.viewports?.forEach((v) => v.close())
    const before = this.built === this.meta?.index ? this.viewports ?? [] : []
    if (this.built !== this.meta?.index || this.mode !== 'mpr') this.#drop()
    this.built = this.meta?.index
    this.viewports = []
    const { words } = this
    if (!this.stack) {
      this.element.replaceChildren(h('p', { class: 'nothing' }, words.empty))
      return
    }
    this.#reach()
    const state = this.reader.data.states[this.modality] ?? { state: 'present', why: '' }
    const volume = this.meta.kind === 'volume'
    const planar = volume && this.meta.exact
    if (!planar && this.mode !== 'axial') this.mode = 'axial'
    const planes = this.mode === 'mpr' ? PLANES : [this.mode]
    this.viewports = planes.map((p) => new Viewport(this, p, before.find((v) => v.plane === p)))
    const grid = h('div', { class: `grid ${this.mode === 'mpr' ? 'mpr' : 'axial'}` }, this.viewports.map((v) => v.canvas))
    if (this.mode === 'mpr') grid.append(this.three = this.three && this.rendering ? this.three : this.#three())
    this.presetList = this.#windows()
    const series = this.reader.images.map((i) => [i.index, `${i.modality} ${i.title}${i.prior ? ` · ${words.prior}` : ''}`])
    const head = h('header', {}, h('strong', {}, words.modalities[this.modality]),
      state.state !== 'present' && h('span', { class: `badge ${state.state}`, title: state.why }, words.states[state.state]), state.why && h('span', { class: 'why', title: state.why }, state.why),
      choose(words.series, series, this.meta.index, (i) => this.show(Number(i))),
      this.presetList,
      choose(words.colours, MAP_NAMES.map((n) => [n, words.maps[n]]), this.map, (m) => { this.map = m; this.draw() }),
      planar && choose(words.plane, PLANES.map((p) => [p, words[p]]), this.plane, (p) => this.setMode(p)),
      planar && choose(words.slab, [['', words.thin], ...SLABS.map((k) => [k, words.slabs[k]])], this.slab?.kind ?? '', (kind) => { this.slab = kind ? { kind, mm: this.slab?.mm ?? 10 } : null; this.rebuild() }),
      planar && this.slab && choose(words.thickness, THICKNESS.map((mm) => [mm, `${mm} mm`]), this.slab.mm, (mm) => { this.slab = { ...this.slab, mm: Number(mm) }; this.draw() }),
      !this.fused && this.#fusing(),
      planar && h('button', { class: this.mode === 'mpr' ? 'on' : '', 'aria-label': words.mpr, title: words.mpr_hint, onclick: () => this.setMode(this.mode === 'mpr' ? 'axial' : 'mpr') }, '⊞'))
    this.readout = h('output', { class: 'readout' }, '\u00a0')
    this.slider = h('input', { type: 'range', min: 1, max: shapeOf(this.stack, this.plane).count, 'data-keys': 'page', 'aria-label': volume ? words.slice : words.frame,
      oninput: (e) => this.goToPlane(this.plane, Number(e.target.value) - 1) })
    const foot = h('footer', {}, !volume && this.#player(), this.slider, this.readout)
    const warnings = this.meta.warnings.join('; ')
    this.element.replaceChildren(head, this.#fusion(), grid, foot, warnings ? h('p', { class: 'warning', title: warnings }, `⚠ ${warnings}`) : '')
    this.element.classList.toggle('active', this.reader.current === this)
    this.fetch()
    this.draw()
  }

  /** What lies over the planes stays as long as somebody says how. */
  #reach() {
    const way = this.fused && this.#onto(this.fused.stack.meta)
    this.fused = way ? Object.assign(this.fused, way) : null
  }

  /** The windows to choose from; one that was set by hand can be kept by a name, and an own one taken away. */
  #windows() {
    const { words, reader } = this
    const own = reader.data.windows?.[this.modality] ?? {}
    const standing = this.preset
    const names = Object.keys(this.presets).map((n) => [n, words.presets[n] ?? n])
    const mine = reader.data.may_save ? [['+', words.keep_window], ...(own[standing] ? [['-', words.drop_window.replace('{name}', standing)]] : [])] : []
    return choose(words.window, [['', words.free], ...names, ...mine], this.preset, (name) => {
      if (name === '+') reader.keepWindow(this)
      else if (name === '-') reader.tellWindow(this.modality, standing, null)
      else if (name) this.setPreset(name)
      this.presetList.value = this.preset
    })
  }

  /** What lies over the planes: which series, in which window and colours, and how strongly. */
  #fusion() {
    const { words, fused } = this
    if (!fused) return ''
    fused.stack.load(0, () => this.draw(), (problem) => this.reader.failed(problem))
    return h('header', { class: 'fusion' }, h('span', {}, words.fused), this.#fusing(),
      choose(words.fused_window, Object.keys(fused.stack.meta.presets).map((n) => [n, words.presets[n] ?? n]), fused.preset, (n) => { fused.preset = n; fused.window = [...fused.stack.meta.presets[n]]; this.draw() }),
      choose(words.fused_colours, MAP_NAMES.map((n) => [n, words.maps[n]]), fused.map, (m) => { fused.map = m; this.draw() }),
      h('input', { type: 'range', min: 0, max: 1, step: 0.05, value: String(fused.opacity), 'aria-label': words.fused_opacity, title: words.fused_opacity, oninput: (e) => { fused.opacity = Number(e.target.value); this.draw() } }),
      fused.by && h('span', { class: 'why', title: words.registered_by.replace('{name}', fused.by) }, words.registered_by.replace('{name}', fused.by)))
  }

  #fusing() {
    const partners = this.#partners()
    const { words } = this
    return partners.length > 0 && choose(words.fused, [['', words.fused_none], ...partners.map((i) => [i.index, `${i.modality} ${i.title}`])], this.fused?.stack.meta.index ?? '', (i) => this.fuse(i === '' ? null : Number(i)))
  }

  /** Ask for the pixels that are not here yet. */
  fetch() {
    this.stack?.load(this.indexOf('axial'), () => this.draw(), (problem) => this.reader.failed(problem))
  }

  #drop() {
    clearTimeout(this.later)
    this.rendering?.close()
    this.rendering = null
    this.three = null
  }

  show(index) {
    this.pick(index)
    this.rebuild()
    this.reader.hung()
  }

  setMode(mode) {
    this.mode = mode
    this.tilt = null
    this.rebuild()
    this.reader.arrange()
  }

  draw() {
    this.viewports?.forEach((v) => v.draw())
    if (this.slider && this.stack) this.slider.value = this.indexOf(this.plane) + 1
    if (this.rendering && this.stack.affine) this.#follow()
  }

  /** The rendering follows when the planes rest: without a GPU one picture takes longer than many slices. */
  #follow() {
    clearTimeout(this.later)
    this.later = setTimeout(() => {
      const started = performance.now()
      this.rendering?.at(this.stack.toMm(this.position()))
      this.cost = performance.now() - started
    }, Math.max(60, 2 * (this.cost ?? 0)))
  }

  #three() {
    const canvas = h('canvas', { class: 'three', role: 'img', 'aria-label': this.words.mpr_hint })
    const holder = h('div', { class: 'holder' }, canvas)
    if (!document.createElement('canvas').getContext('webgl2')) {
      holder.replaceChildren(h('p', { class: 'nothing' }, this.words.no_webgl2))
      return holder
    }
    const start = h('button', { onclick: async () => {
      start.remove()
      await this.stack.load(this.indexOf('axial'), () => {}, () => {})
      const { render } = await import('./niivue.js')
      if (canvas.isConnected) this.rendering = await render(canvas, this.stack, this.window)
      canvas.dataset.rendered = 1
      this.draw()
    } }, this.words.show_3d)
    holder.append(start)
    return holder
  }

  #player() {
    const { words, meta } = this
    if (meta.shape[2] < 2) return null
    const rate = meta.frame_ms ? `${(1000 / meta.frame_ms).toFixed(0)} ${words.fps}` : words.fps_unknown
    this.button = h('button', { class: 'play', title: words.play, onclick: () => this.play() }, '▶')
    return h('span', { class: 'player' }, this.button, choose(words.speed, SPEEDS.map((s) => [s, `${s}×`]), this.speed, (s) => { this.speed = Number(s) }), h('small', {}, rate))
  }

  /** Frames at their true times (40 ms where the file says none, and the pane says so), times the chosen speed. */
  play() {
    if (this.playing) return this.stop()
    this.playing = true
    this.button.textContent = '❚❚'
    let [last, spent] = [performance.now(), 0]
    const tick = (now) => {
      if (!this.playing) return
      spent += (now - last) * this.speed
      last = now
      const frame = this.meta.frame_ms || 40
      const by = Math.floor(spent / frame)
      if (by) {
        spent -= by * frame
        const at = [...this.position()]
        at[2] = (at[2] + by) % this.meta.shape[2]
        this.goTo(at)
      }
      requestAnimationFrame(tick)
    }
    requestAnimationFrame(tick)
  }

  stop() {
    this.playing = false
    if (this.button) this.button.textContent = '▶'
  }

  close() {
    this.stop()
    this.viewports?.forEach((v) => v.close())
    this.#drop()
  }
}

/** The eight corners of a box of two. @param {number[][]} box @returns {any[]} */
function cornersOf(box) {
  const [low, high] = box
  return [0, 1, 2, 3, 4, 5, 6, 7].map((n) => [0, 1, 2].map((i) => (n >> i & 1 ? high : low)[i]))
}

/** False for the whole of an image, which is no place in it. */
function hasExtent({ box: [low, high] }, { shape }) {
  return [0, 1].some((i) => low[i] > 0 || high[i] < shape[i] - 1)
}

function sign(v) {
  return `${v < 0 ? '−' : '+'}${Math.abs(v).toFixed(1)}`
}
