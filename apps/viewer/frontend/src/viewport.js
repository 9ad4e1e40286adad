/** One plane of one image on a canvas: pixels without change, and over them marks, crosshair, evidence, measurements. */

import { h } from './dom.js'
import { distance, ellipse } from './measure.js'
import { EDGES, lookup, paint, pixelOf, shapeOf, voxelAt } from './plane.js'

const HIGHLIGHT = '#ffc400'
const LABEL = '#a0dcff'
const SOFTWARE = { willReadFrequently: true } // every slice is new pixels from memory: copies to a GPU and back cost more than they save

export class Viewport {
  /** host: what the viewport asks and tells (see Pane). plane: axial, coronal, sagittal; a cine has axial alone. */
  constructor(host, plane) {
    this.host = host
    this.plane = plane
    this.zoom = 1
    this.pan = [0, 0]
    this.back = document.createElement('canvas') // the plane at its own size
    this.canvas = h('canvas', {
      class: 'viewport', tabIndex: -1,
      onwheel: (e) => this.#wheel(e), onpointerdown: (e) => this.#down(e), onpointermove: (e) => this.#move(e),
      onpointerup: (e) => this.#up(e), onpointerleave: () => host.hover(null), oncontextmenu: (e) => e.preventDefault(),
      ondblclick: () => { this.reset(); this.draw() },
    })
    this.observer = new ResizeObserver(() => this.draw())
    this.observer.observe(this.canvas)
  }

  close() {
    this.observer.disconnect()
    cancelAnimationFrame(this.asked)
  }

  reset() {
    this.zoom = 1
    this.pan = [0, 0]
  }

  /** Draw before the next paint of the screen; many wishes are one drawing. */
  draw() {
    cancelAnimationFrame(this.asked)
    this.asked = requestAnimationFrame(() => this.drawNow())
  }

  drawNow() {
    const { stack } = this.host
    const ratio = window.devicePixelRatio || 1
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight]
    if (!width || !height) return
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio)
      this.canvas.height = Math.round(height * ratio)
    }
    const context = this.canvas.getContext('2d', SOFTWARE)
    context.setTransform(ratio, 0, 0, ratio, 0, 0)
    context.fillStyle = '#000'
    context.fillRect(0, 0, width, height)
    if (!stack) return
    const shape = shapeOf(stack, this.plane)
    const index = this.host.indexOf(this.plane)
    this.fit = this.#place(shape, width, height)
    this.#refresh(stack, shape, index)
    const { x, y, sx, sy, flip } = this.fit
    context.imageSmoothingEnabled = this.host.smooth
    context.save()
    context.translate(flip ? x + shape.width * sx : x, y)
    context.scale(flip ? -sx : sx, sy)
    context.drawImage(this.back, 0, 0)
    context.restore()
    this.#boxes(context, stack, index)
    this.#measurements(context, stack, index)
    if (this.host.crosshair) this.#crosshair(context, stack, index, width, height)
    this.#marks(context, stack, width, height)
    this.#caption(context, stack, index, shape, width, height)
    Object.assign(this.canvas.dataset, {
      plane: this.plane, index, image: stack.meta.index, window: this.host.window.join(','),
      fit: [x, y, sx, sy].map((v) => v.toFixed(3)).join(','), loaded: this.#arrived(stack, index) ? 1 : 0,
    })
  }

  /** Where the plane lies on the canvas: origin and size of a pixel, square in mm. */
  #place({ width: w, height: hh, mx, my }, width, height) {
    const scale = Math.min(width / (w * mx), height / (hh * my)) * this.zoom
    const [sx, sy] = [mx * scale, my * scale]
    const flip = this.host.flipped && this.plane !== 'sagittal' && this.host.stack.meta.kind === 'volume'
    return { x: (width - w * sx) / 2 + this.pan[0], y: (height - hh * sy) / 2 + this.pan[1], sx, sy, flip, w }
  }

  #refresh(stack, shape, index) {
    const key = [stack.meta.url, stack.meta.index, stack.version, index, ...this.host.window, this.host.map].join('|')
    if (key === this.key) return
    this.key = key
    const tableKey = [stack.meta.index, ...this.host.window, this.host.map].join('|')
    if (tableKey !== this.tableKey) {
      this.table = lookup(stack, this.host.window, this.host.map)
      this.tableKey = tableKey
    }
    if (this.back.width !== shape.width || this.back.height !== shape.height || !this.image) {
      this.back.width = shape.width
      this.back.height = shape.height
      this.image = new ImageData(shape.width, shape.height)
      this.words = new Uint32Array(this.image.data.buffer)
    }
    paint(stack, this.plane, index, this.table, this.words)
    this.back.getContext('2d', SOFTWARE).putImageData(this.image, 0, 0)
  }

  toScreen([u, v]) {
    const { x, y, sx, sy, flip, w } = this.fit
    return [x + (flip ? w - u : u) * sx, y + v * sy]
  }

  toPixel(event) {
    const { x, y, sx, sy, flip, w } = this.fit
    const box = this.canvas.getBoundingClientRect()
    const u = (event.clientX - box.left - x) / sx
    return [flip ? w - u : u, (event.clientY - box.top - y) / sy]
  }

  #boxes(context, stack, index) {
    for (const { box: [low, high], label, flash } of this.host.places()) {
      const a = pixelOf(stack, this.plane, low)
      const b = pixelOf(stack, this.plane, high)
      const [from, to] = [Math.min(a[2], b[2]), Math.max(a[2], b[2])]
      if (index < from - 0.5 || index > to + 0.5) continue
      const [x0, y0] = this.toScreen([Math.min(a[0], b[0]), Math.min(a[1], b[1])])
      const [x1, y1] = this.toScreen([Math.max(a[0], b[0]) + 1, Math.max(a[1], b[1]) + 1])
      const left = Math.min(x0, x1) - 3
      context.strokeStyle = HIGHLIGHT
      context.globalAlpha = this.host.opacity
      context.lineWidth = flash ? 4 : 2
      context.strokeRect(left, y0 - 3, Math.abs(x1 - x0) + 6, y1 - y0 + 6)
      if (label) text(context, label, left, y0 - 8, { colour: HIGHLIGHT, align: 'left', within: this.canvas.clientWidth })
      context.globalAlpha = 1
    }
  }

  #measurements(context, stack, index) {
    const mine = this.host.measurements().filter((m) => m.plane === this.plane && m.slice === index)
    const drawn = this.drag?.shape ? [...mine, this.drag.shape] : mine
    for (const m of drawn) {
      const [[x0, y0], [x1, y1]] = m.points.map((p) => this.toScreen(p))
      context.strokeStyle = '#7CFC9A'
      context.lineWidth = 1.5
      context.beginPath()
      if (m.kind === 'distance') {
        context.moveTo(x0, y0)
        context.lineTo(x1, y1)
      } else context.ellipse((x0 + x1) / 2, (y0 + y1) / 2, Math.abs(x1 - x0) / 2, Math.abs(y1 - y0) / 2, 0, 0, 2 * Math.PI)
      context.stroke()
      text(context, m.text ?? '', Math.max(x0, x1) + 6, (y0 + y1) / 2, { colour: '#7CFC9A', align: 'left' })
    }
  }

  #crosshair(context, stack, index, width, height) {
    const at = this.host.position()
    if (!at) return
    const [u, v, n] = pixelOf(stack, this.plane, at)
    if (Math.abs(n - index) > 0.6) return
    const [x, y] = this.toScreen([u + 0.5, v + 0.5])
    context.strokeStyle = 'rgba(79,179,191,.75)'
    context.lineWidth = 1
    context.beginPath()
    for (const [x0, y0, x1, y1] of [[0, y, x - 10, y], [x + 10, y, width, y], [x, 0, x, y - 10], [x, y + 10, x, height]]) {
      context.moveTo(x0, y0)
      context.lineTo(x1, y1)
    }
    context.stroke()
  }

  #marks(context, stack, width, height) {
    if (stack.meta.kind === 'cine') return // an ultrasound's side is never guessed
    if (!stack.affine) {
      text(context, this.host.words.orientation_unknown, 8, 14, { colour: '#ff8d84', align: 'left' })
      return
    }
    let [left, right, top, bottom] = EDGES[this.plane]
    if (this.fit.flip) [left, right] = [right, left]
    text(context, left, 8, height / 2, { size: 17, colour: LABEL, align: 'left' })
    text(context, right, width - 8, height / 2, { size: 17, colour: LABEL, align: 'right' })
    text(context, top, width / 2, 14, { size: 17, colour: LABEL })
    text(context, bottom, width / 2, height - 34, { size: 17, colour: LABEL })
  }

  #caption(context, stack, index, { count }, width, height) {
    const { words } = this.host
    const what = stack.meta.kind === 'cine' ? words.frame : words[this.plane]
    const simulated = stack.meta.simulated ? `${words.simulated} · ` : ''
    text(context, `${simulated}${what} ${index + 1}/${count}`, 8, height - 14, { align: 'left', size: 12 })
    const [centre, width_] = this.host.window
    if (stack.meta.kind === 'volume')
      text(context, `L ${round(centre)} W ${round(width_)}`, width - 8, 13, { align: 'right', size: 12 })
    if (!this.#arrived(stack, index)) text(context, words.loading, width / 2, height / 2, { size: 15 })
  }

  /** A slice needs its own chunk, a plane across the slices all of them. */
  #arrived(stack, index) {
    return this.plane === 'axial' ? stack.has(index) : stack.complete
  }

  #wheel(event) {
    event.preventDefault()
    if (event.ctrlKey) {
      this.zoom = Math.max(0.5, Math.min(12, this.zoom * (event.deltaY < 0 ? 1.15 : 1 / 1.15)))
      this.draw()
    } else this.host.step(this.plane, event.deltaY > 0 ? 1 : -1)
  }

  #down(event) {
    this.host.active(this)
    this.canvas.setPointerCapture(event.pointerId)
    const tool = event.button === 2 ? 'window' : event.button === 1 || event.shiftKey ? 'pan' : this.host.tool
    this.drag = { tool, x: event.clientX, y: event.clientY, window: [...this.host.window], pan: [...this.pan], from: this.fit && this.toPixel(event) }
    this.#move(event)
  }

  #move(event) {
    const { stack } = this.host
    if (!stack || !this.fit) return
    const [u, v] = this.toPixel(event)
    const index = this.host.indexOf(this.plane)
    const voxel = voxelAt(stack, this.plane, index, Math.floor(u), Math.floor(v))
    this.host.hover(voxel)
    const d = this.drag
    if (!d) return
    if (d.tool === 'window') {
      const [centre, width] = d.window
      const step = Math.max(width / 300, 1e-6)
      this.host.setWindow([centre + (event.clientY - d.y) * step, Math.max(step, width + (event.clientX - d.x) * step)])
    } else if (d.tool === 'pan') {
      this.pan = [d.pan[0] + event.clientX - d.x, d.pan[1] + event.clientY - d.y]
      this.draw()
    } else if (d.tool === 'navigate') this.host.goTo(voxel)
    else {
      const points = [d.from, [u, v]]
      const result = d.tool === 'distance' ? distance(stack, points, this.plane) : ellipse(stack, points, this.plane, index, voxelAt)
      d.shape = result && { ...result, points, plane: this.plane, slice: index }
      this.draw()
    }
  }

  #up() {
    const done = this.drag?.shape
    this.drag = null
    if (done && Math.hypot(done.points[1][0] - done.points[0][0], done.points[1][1] - done.points[0][1]) > 1) this.host.measured(done)
    this.draw()
  }
}

function round(v) {
  return Math.abs(v) >= 10 ? Math.round(v) : v.toFixed(2)
}

function text(context, words, x, y, { size = 13, colour = '#dfe6ea', align = 'center', within = 0 } = {}) {
  context.font = `600 ${size}px system-ui, sans-serif`
  if (within) x = Math.max(2, Math.min(x, within - context.measureText(words).width - 4))
  context.textAlign = align
  context.textBaseline = 'middle'
  context.lineWidth = 3
  context.strokeStyle = 'rgba(0,0,0,.85)'
  context.strokeText(words, x, y)
  context.fillStyle = colour
  context.fillText(words, x, y)
}
