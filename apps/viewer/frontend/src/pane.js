/** One modality: its series, window and colours, one plane or three with a rendering, and the cine's player. */

import { choose, h } from './dom.js'
import { MAP_NAMES, PLANES, shapeOf } from './plane.js'
import { Viewport } from './viewport.js'

const SPEEDS = [0.25, 0.5, 1, 2]
const MODALITY_WINDOW = { CT: 'Abdomen', MR: 'Full', US: 'Full' }

export class Pane {
  constructor(reader, modality) {
    Object.assign(this, { reader, modality, map: 'grey', speed: 1, playing: false, mode: 'axial', own: null })
    this.images = reader.data.images.filter((i) => i.modality === modality)
    this.images.length && this.pick(this.images[0].index)
    this.element = h('section', { class: 'pane', 'data-modality': modality, onpointerenter: () => reader.activate(this) })
    this.rebuild()
  }

  // what a viewport asks of its host
  get words() { return this.reader.words }
  get tool() { return this.reader.tool }
  get opacity() { return this.reader.opacity }
  get smooth() { return this.reader.smooth }
  get flipped() { return this.reader.flipped }
  get crosshair() { return this.meta?.kind === 'volume' && (this.mode !== 'axial' || this.reader.crosshairOn) }
  get meta() { return this.stack?.meta }

  pick(index) {
    this.stack = this.reader.stackOf(index)
    const presets = this.meta.presets
    this.preset = presets[this.preset] ? this.preset : MODALITY_WINDOW[this.modality]
    this.window = [...(this.reader.windows.get(index) ?? presets[this.preset] ?? Object.values(presets)[0])]
    this.own ??= {}
    this.own[index] ??= this.meta.shape.map((n) => Math.floor(n / 2))
    this.stop()
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

  indexOf(plane) {
    const [x, y, z] = this.position()
    return plane === 'coronal' ? y : plane === 'sagittal' ? x : z
  }

  goTo(voxel) {
    const at = voxel.map((v, i) => Math.max(0, Math.min(this.meta.shape[i] - 1, Math.round(v))))
    this.own[this.meta.index] = at
    const mm = this.stack.toMm(at)
    if (mm && this.meta.frame_of_reference) this.reader.crosshairs.set(this.meta.frame_of_reference, mm)
    this.reader.moved(this)
  }

  step(plane, by) {
    const at = [...this.position()]
    at[plane === 'coronal' ? 1 : plane === 'sagittal' ? 0 : 2] += by
    this.goTo(at)
  }

  setWindow(window) {
    this.window = window
    this.preset = ''
    this.reader.windows.set(this.meta.index, window)
    this.presetList.value = ''
    this.draw()
  }

  hover(voxel) {
    if (!this.readout) return
    const value = voxel && this.stack.value(...voxel)
    const mm = voxel && this.stack.toMm(voxel)
    const parts = []
    if (value !== null && value !== undefined) parts.push(`${Number.isInteger(value) ? value : value.toFixed(2)} ${this.meta.unit}`.trim())
    if (mm) parts.push(`R${sign(mm[0])} A${sign(mm[1])} S${sign(mm[2])} mm`)
    this.readout.textContent = parts.join(' · ') || '\u00a0'
  }

  active() {
    this.reader.activate(this)
  }

  measurements() {
    return this.reader.measurements.filter((m) => m.image === this.meta.index)
  }

  measured(found) {
    this.reader.measured({ ...found, image: this.meta.index, series_uid: this.meta.series_uid })
  }

  /** Evidence on this series: its own places, and those of other series in the same frame of reference. */
  places() {
    if (!this.reader.evidence) return []
    return this.reader.places.flatMap((p) => {
      const flash = this.reader.flash === p.id
      if (p.image === this.meta.index) return [{ box: p.box, label: p.label, flash }]
      const other = this.reader.data.images[p.image]
      if (!this.stack.inverse || !p.box_mm || !this.meta.frame_of_reference || other.frame_of_reference !== this.meta.frame_of_reference) return []
      const corners = p.box_mm.map((mm) => this.stack.toVoxel(mm))
      const box = [Math.min, Math.max].map((f) => [0, 1, 2].map((i) => Math.round(f(...corners.map((c) => c[i])))))
      return [{ box, label: p.label, flash }]
    })
  }

  /** Build the pane anew: after another series, layout or mode. */
  rebuild() {
    this.viewports?.forEach((v) => v.close())
    this.rendering?.close()
    this.rendering = null
    this.viewports = []
    const state = this.reader.data.states[this.modality]
    const { words } = this
    const head = h('header', {}, h('strong', {}, words.modalities[this.modality]),
      h('span', { class: `badge ${state.state}` }, words.states[state.state]), state.why && h('span', { class: 'why' }, state.why))
    if (!this.stack) {
      this.element.replaceChildren(head, h('p', { class: 'nothing' }, state.state === 'failed' ? words.unreadable : words.not_acquired))
      return
    }
    const volume = this.meta.kind === 'volume'
    const planar = volume && this.meta.exact
    if (!planar && this.mode !== 'axial') this.mode = 'axial'
    const planes = this.mode === 'axial' ? ['axial'] : PLANES
    this.viewports = planes.map((p) => new Viewport(this, p))
    const grid = h('div', { class: `grid ${this.mode}` }, this.viewports.map((v) => v.canvas))
    if (this.mode === 'mpr') grid.append(this.#three())
    this.presetList = choose(words.window, [['', words.free], ...Object.keys(this.meta.presets).map((n) => [n, words.presets[n] ?? n])], this.preset, (name) => {
      if (!name) return
      this.preset = name
      this.window = [...this.meta.presets[name]]
      this.reader.windows.delete(this.meta.index)
      this.draw()
    })
    const controls = h('div', { class: 'controls' },
      choose(words.series, this.images.map((i) => [i.index, i.title]), this.meta.index, (i) => this.show(Number(i))),
      this.presetList,
      choose(words.colours, MAP_NAMES.map((n) => [n, words.maps[n]]), this.map, (m) => { this.map = m; this.draw() }),
      planar && h('button', { class: this.mode === 'mpr' ? 'on' : '', title: words.mpr_hint, onclick: () => this.setMode(this.mode === 'mpr' ? 'axial' : 'mpr') }, words.mpr))
    this.readout = h('output', { class: 'readout' }, '\u00a0')
    this.slider = h('input', { type: 'range', min: 1, max: shapeOf(this.stack, 'axial').count, 'aria-label': volume ? words.slice : words.frame,
      oninput: (e) => { const at = [...this.position()]; at[2] = Number(e.target.value) - 1; this.goTo(at) } })
    const foot = h('footer', {}, !volume && this.#player(), this.slider)
    this.element.replaceChildren(head, controls, grid, foot, this.readout,
      this.meta.warnings.length ? h('p', { class: 'warning' }, this.meta.warnings.join('; ')) : '')
    this.element.classList.toggle('active', this.reader.current === this)
    this.stack.load(this.indexOf('axial'), () => this.draw(), (problem) => this.reader.failed(problem))
    this.draw()
  }

  show(index, keep = false) {
    this.pick(index)
    if (!keep) this.rebuild()
  }

  setMode(mode) {
    this.mode = mode
    this.rebuild()
    this.reader.arrange()
  }

  draw() {
    this.viewports?.forEach((v) => v.draw())
    if (this.slider) this.slider.value = this.indexOf('axial') + 1
    if (this.rendering && this.stack.affine) this.rendering.at(this.stack.toMm(this.position()))
  }

  #three() {
    const canvas = h('canvas', { class: 'three' })
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
    this.viewports.forEach((v) => v.close())
    this.rendering?.close()
  }
}

function sign(v) {
  return `${v < 0 ? '−' : '+'}${Math.abs(v).toFixed(1)}`
}
