/** One plane of one image on a canvas: pixels without change, and over them marks, crosshair, evidence, measurements. */

import { corners } from './corners.js'
import { h } from './dom.js'
import { write } from './ink.js'
import { paintTilted } from './oblique.js'
import { free, ink, traced } from './outline.js'
import { trace } from './overlay.js'
import { drawStates } from './states.js'
import { DRAWING, figured, sketch, struck } from './tools.js'
import { EDGES, lookup, paint, pixelOf, shapeOf, voxelAt } from './plane.js'
import { overlay, paintSlab, planesOf } from './slab.js'
import { apply } from './stack.js'

const HIGHLIGHT = '#ffc400'
const LABEL = '#a0dcff'
const REFERENCE = '#6fb7ff'
const MOST_NAMES = 12 // of structures in one plane: beyond it they stand in the list alone
const NOTCH = 100 // pixels that one notch of a wheel scrolls
const STEP = 3 // pixels between two points of a line by hand
const LONGEST = 1000 // points of it
const PAUSE_MS = 200 // after which turning the wheel begins anew
const SOFTWARE = { willReadFrequently: true } // every slice is new pixels from memory: copies to a GPU and back cost more than they save

export class Viewport {
  /**
   * host: what the viewport asks and tells (see Pane). plane: axial, coronal, sagittal; a cine has axial alone.
   * before: the viewport in whose place this one comes, with the same image.
   */
  constructor(host, plane, before = null) {
    this.host = host
    this.plane = plane
    this.zoom = before?.zoom ?? 1
    this.pan = before?.pan ?? [0, 0]
    /** @type {number[][] | null} */
    this.part = null // corners of what is to fill the canvas, until it does
    /** @type {[number, number][]} */
    this.wanted = [] // points of the plane that must be on the canvas at the next drawing
    this.turned = 0 // of the wheel, in pixels, that did not make a step yet
    this.lastTurn = 0
    /** @type {{ clientX: number, clientY: number } | null} */
    this.pointer = null
    /** @type {Map<string, { key: string, found: any }>} */
    this.outlines = new Map()
    this.back = document.createElement('canvas') // the plane at its own size
    this.canvas = h('canvas', {
      class: 'viewport', role: 'img', tabIndex: -1,
      onwheel: (e) => this.#wheel(e), onpointerdown: (e) => this.#down(e), onpointermove: (e) => this.#move(e),
      onpointerup: (e) => this.#up(e), onpointerleave: () => { this.pointer = null; host.hover(null) }, oncontextmenu: (e) => e.preventDefault(),
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

  /** Points that were led to are seen: where the zoom left one outside, the whole plane is shown. */
  reveal(points) {
    this.wanted = points
    this.draw()
  }

  #show(shape, width, height) {
    const outside = this.wanted.map((p) => this.toScreen(p)).some(([x, y]) => x < 0 || y < 0 || x > width || y > height)
    this.wanted = []
    if (!outside) return
    this.reset()
    this.fit = this.#place(shape, width, height)
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
    if (this.part) this.#frame(shape, width, height)
    this.fit = this.#place(shape, width, height)
    if (this.wanted.length) this.#show(shape, width, height)
    this.#refresh(stack, shape, index)
    const { x, y, sx, sy, flip } = this.fit
    context.imageSmoothingEnabled = this.host.smooth
    context.save()
    context.translate(this.fit.cx, this.fit.cy)
    context.rotate((this.fit.turn * Math.PI) / 2)
    context.scale(flip ? -sx : sx, sy)
    context.drawImage(this.back, -shape.width / 2, -shape.height / 2)
    context.restore()
    const drawn = this.host.overlays ? trace(context, this.host, this.plane, index, shape, (p) => this.toScreen(p), () => this.draw()) : 0
    const stated = this.host.tilt ? '' : drawStates(context, this.host.stated(this.plane, index), (p) => this.toScreen(p), [width, height])
    const others = this.#others(context, stack, index)
    const outlined = this.#evidence(context, stack, index)
    this.#measurements(context, index)
    const line = this.#reference(context, index)
    if (this.host.crosshair) this.#crosshair(context, stack, index, width, height)
    this.#marks(context, stack, width, height)
    this.#caption(context, stack, index, shape, width, height)
    corners(context, this.host, width, height)
    this.canvas.setAttribute('aria-label', this.#named(stack, index, shape))
    Object.assign(this.canvas.dataset, {
      plane: this.plane, index, image: stack.meta.index, window: this.host.window.join(','), tilt: (this.host.tilt?.angle ?? 0).toFixed(1), pivot: this.host.tilt?.pivot.join(',') ?? '', outlined,
      where: this.#where(stack, index), fit: [x, y, sx, sy].map((v) => v.toFixed(3)).join(','), loaded: this.#arrived(stack, index) ? 1 : 0, drawn, stated, others, reference: line.flat().map((v) => v.toFixed(1)).join(','),
    })
    if (this.pointer) this.host.hover(this.#voxelUnder(this.pointer), this.plane) // other pixels came under it
  }

  #voxelUnder(point) {
    return this.#exactlyUnder(point).map(Math.round)
  }

  /** The place under a point in voxels; between them where the plane is turned. */
  #exactlyUnder(point) {
    const [u, v] = this.toPixel(point)
    const { stack, tilt } = this.host
    const voxel = voxelAt(stack, this.plane, this.host.indexOf(this.plane), Math.floor(u), Math.floor(v))
    return tilt ? apply(tilt.to, voxel) : voxel
  }

  /** Where the plane lies on the canvas: origin and size of a pixel, square in mm. */
  #place({ width: w, height: hh, mx, my }, width, height) {
    const { turn } = this.host
    const [across, down] = turn % 2 ? [hh * my, w * mx] : [w * mx, hh * my]
    const scale = Math.min(width / across, height / down) * this.zoom
    const [sx, sy] = [mx * scale, my * scale]
    const flip = this.host.flipped && this.plane !== 'sagittal' && this.host.stack.meta.kind === 'volume'
    const [cx, cy] = [width / 2 + this.pan[0], height / 2 + this.pan[1]]
    return { x: cx - (w * sx) / 2, y: cy - (hh * sy) / 2, sx, sy, flip, w, h: hh, turn, cx, cy }
  }

  /** Zoom and pan so that the part between two corners of the plane fills the canvas. */
  #frame({ width: w, height: hh, mx, my }, width, height) {
    const { turn } = this.host
    const [a, b] = this.part ?? []
    this.part = null
    /** @returns {[number, number]} */
    const sides = (u, v) => (turn % 2 ? [v * my, u * mx] : [u * mx, v * my])
    const fitting = ([across, down]) => Math.min(width / across, height / down)
    const whole = fitting(sides(w, hh))
    this.zoom = Math.max(0.5, Math.min(12, fitting(sides(Math.abs(b[0] - a[0]), Math.abs(b[1] - a[1]))) / whole))
    this.pan = [0, 0]
    this.fit = this.#place({ width: w, height: hh, mx, my }, width, height)
    const [x, y] = this.toScreen([(a[0] + b[0]) / 2, (a[1] + b[1]) / 2])
    this.pan = [width / 2 - x, height / 2 - y]
  }

  #refresh(stack, shape, index) {
    const { slab, fused, tilt } = this.host
    const over = fused && [fused.stack.meta.index, fused.stack.version, ...fused.window, fused.map, fused.opacity, fused.matrix]
    const key = [stack.meta.url, stack.meta.index, stack.version, index, ...this.host.window, this.host.map, slab?.kind, slab?.mm, tilt?.key, over].join('|')
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
    if (tilt) paintTilted(stack, this.plane, index, tilt, slab, this.table, this.words)
    else if (slab) paintSlab(stack, this.plane, index, slab, this.table, this.words)
    else paint(stack, this.plane, index, this.table, this.words)
    if (fused) overlay(stack, this.plane, index, fused, this.words, tilt)
    const context = /** @type {CanvasRenderingContext2D} */ (this.back.getContext('2d', SOFTWARE))
    context.putImageData(this.image, 0, 0)
  }

  toScreen([u, v]) {
    const { sx, sy, flip, w, h: hh, turn, cx, cy } = this.fit
    let [x, y] = [(u - w / 2) * (flip ? -sx : sx), (v - hh / 2) * sy]
    for (let i = 0; i < turn; i++) [x, y] = [-y, x] // a quarter turn clockwise
    return [cx + x, cy + y]
  }

  toPixel(event) {
    const { sx, sy, flip, w, h: hh, turn, cx, cy } = this.fit
    const box = this.canvas.getBoundingClientRect()
    let [x, y] = [event.clientX - box.left - cx, event.clientY - box.top - cy]
    for (let i = 0; i < turn; i++) [x, y] = [y, -x]
    return [x / (flip ? -sx : sx) + w / 2, y / sy + hh / 2]
  }

  /** Evidence: the outline where it is known, else a box; labels beside them, not over them. How many edges the outlines have. */
  #evidence(context, stack, index) {
    const { shape, opacity } = this.host
    const shown = this.host.places().map((place) => ({ place, form: this.#form(place, stack, index, shape) })).filter((x) => x.form)
    const taken = shown.map((x) => x.form.around)
    context.strokeStyle = context.fillStyle = HIGHLIGHT
    context.globalAlpha = opacity
    for (const { place, form } of shown) {
      const [x0, y0, x1, y1] = form.around
      context.lineWidth = place.flash ? 4 : form.traced ? 1.5 : 2
      if (form.traced) ink(context, form.traced, (p) => this.toScreen(p), shape === 'filled')
      else context.strokeRect(x0, y0, x1 - x0, y1 - y0)
    }
    for (const { place, form } of shown) if (place.label) this.#label(context, place.label, form.around, taken, HIGHLIGHT)
    context.globalAlpha = 1
    return shown.reduce((sum, x) => sum + (x.form.traced?.edges.length ?? 0), 0)
  }

  /** What others outlined, each in its own colour with its name. Which, and how many edges each has. */
  #others(context, stack, index) {
    const shown = this.host.structures().map((one) => ({ one, form: this.#form(one, stack, index, 'outline') })).filter((x) => x.form?.traced)
    const taken = shown.map((x) => x.form.around)
    for (const { one, form } of shown) {
      context.strokeStyle = one.colour
      context.lineWidth = one.flash ? 3 : 1.4
      ink(context, form.traced, (p) => this.toScreen(p), false)
    }
    if (shown.length <= MOST_NAMES) for (const { one, form } of shown) this.#label(context, one.label, form.around, taken, one.colour)
    return shown.map(({ one, form }) => `${one.label}: ${form.traced.edges.length}`).join('\n')
  }

  #label(context, label, around, taken, colour) {
    context.font = '600 13px system-ui, sans-serif'
    const at = free(around, taken, context.measureText(label).width, { width: this.canvas.clientWidth, height: this.canvas.clientHeight })
    taken.push(at.box)
    write(context, label, at.x, at.y, { colour, align: 'left', within: this.canvas.clientWidth })
  }

  /** What of a place this plane cuts, and the part of the screen that it takes; null where it cuts nothing. */
  #form({ id, box: [low, high], has }, stack, index, shape) {
    const { tilt } = this.host
    const [a, b] = [pixelOf(stack, this.plane, low), pixelOf(stack, this.plane, high)]
    if (!tilt && (index < Math.min(a[2], b[2]) - 0.5 || index > Math.max(a[2], b[2]) + 0.5)) return null
    const part = [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]) + 1, Math.max(a[1], b[1]) + 1]
    if (!has || shape === 'box') return tilt ? null : { around: this.#around(part, 3) } // a box has other sides on a turned plane
    const found = this.#traced(id, has, part, stack, index)
    if (!found.rows.length) return null
    const [us, vs] = [found.rows.flatMap((r) => [r[0], r[0] + r[2]]), found.rows.map((r) => r[1])]
    return { around: this.#around([Math.min(...us), Math.min(...vs), Math.max(...us), Math.max(...vs) + 1], 1), traced: found }
  }

  /** @param {any} part first and last column and row, @param {number} margin in pixels of the screen */
  #around([u0, v0, u1, v1], margin) {
    const [[ax, ay], [bx, by]] = [this.toScreen([u0, v0]), this.toScreen([u1, v1])]
    return [Math.min(ax, bx) - margin, Math.min(ay, by) - margin, Math.max(ax, bx) + margin, Math.max(ay, by) + margin]
  }

  /** Traced once a plane. */
  #traced(id, has, part, stack, index) {
    const { tilt } = this.host
    const { width, height } = shapeOf(stack, this.plane)
    const key = [stack.meta.index, index, tilt?.key, part].join()
    const known = this.outlines.get(id)
    if (known?.key === key) return known.found
    const within = tilt ? [0, 0, width, height] : part
    const voxel = (u, v) => { const at = voxelAt(stack, this.plane, index, u, v); return tilt ? apply(tilt.to, at) : at }
    const found = traced((u, v) => has(voxel(u, v)), within)
    this.outlines.set(id, { key, found })
    return found
  }

  #measurements(context, index) {
    const { chosen } = this.host
    const moving = this.drag?.mark
    for (const m of this.host.marks(this.plane, index)) if (m !== moving) sketch(context, m, (p) => this.toScreen(p), write, chosen(m))
    const shape = this.drag?.shape ?? this.making?.shape
    if (shape && shape.slice === index) sketch(context, shape, (p) => this.toScreen(p), write, true)
  }

  /** Where the plane of the active viewport cuts this one. */
  #reference(context, index) {
    const line = this.host.reference(this.plane, index) ?? []
    if (!line.length) return line
    context.strokeStyle = REFERENCE
    context.lineWidth = 1.3
    context.setLineDash([7, 4])
    context.beginPath()
    context.moveTo(...this.toScreen(line[0]))
    context.lineTo(...this.toScreen(line[1]))
    context.stroke()
    context.setLineDash([])
    return line
  }

  #crosshair(context, stack, index, width, height) {
    const at = this.host.position()
    if (!at) return
    const { tilt } = this.host
    const [u, v, n] = pixelOf(stack, this.plane, tilt ? apply(tilt.back, at) : at)
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
      write(context, this.host.words.orientation_unknown, 8, 60, { colour: '#ff8d84', align: 'left' })
      return
    }
    let [left, right, top, bottom] = this.host.tilt?.edges() ?? EDGES[this.plane]
    if (this.fit.flip) [left, right] = [right, left]
    for (let i = 0; i < this.fit.turn; i++) [left, right, top, bottom] = [bottom, top, left, right]
    write(context, left, 8, height / 2, { size: 17, colour: LABEL, align: 'left' })
    write(context, right, width - 8, height / 2, { size: 17, colour: LABEL, align: 'right' })
    write(context, top, width / 2, height > 150 ? 14 : 10, { size: 17, colour: LABEL })
    write(context, bottom, width / 2, height - 34, { size: 17, colour: LABEL })
  }

  /** What a screen reader says of it: whose image, what of it, and which plane. */
  #named(stack, index, { count }) {
    const { words, whose } = this.host
    return [whose.name || whose.patient_id, words.modalities[stack.meta.modality] ?? stack.meta.modality, `${this.#what(stack)} ${index + 1}/${count}`].join(', ')
  }

  #what(stack) {
    const { words } = this.host
    return `${this.host.tilt ? `${words.oblique} ${Math.round(this.host.tilt.angle)}° · ` : ''}${stack.meta.kind === 'cine' ? words.frame : words[this.plane]}`
  }

  #caption(context, stack, index, { count }, width, height) {
    const { words } = this.host
    const simulated = stack.meta.simulated && words.simulated
    const place = this.#where(stack, index)
    const { slab } = this.host
    const thick = slab ? ` · ${words.slabs[slab.kind]} ${slab.mm} mm` : ''
    write(context, `${this.#what(stack)} ${index + 1}/${count}${place}${thick}`, 8, height - 12, { align: 'left', size: 12 })
    if (simulated) write(context, simulated, 8, height - 27, { align: 'left', size: 12 })
    if (!this.#arrived(stack, index)) write(context, words.loading, width / 2, height / 2, { size: 15 })
  }

  /** Where the plane lies in mm, and the number under which a PACS shows the slice. */
  #where(stack, index) {
    if (this.host.tilt) return '' // it lies at no one height
    const middle = stack.toMm(voxelAt(stack, this.plane, index, stack.nx / 2, this.plane === 'axial' ? stack.ny / 2 : stack.nz / 2))
    const axis = { axial: 2, coronal: 1, sagittal: 0 }[this.plane]
    const mm = middle && stack.meta.exact ? ` · ${'RAS'[axis]}${middle[axis] < 0 ? '−' : '+'}${Math.abs(middle[axis]).toFixed(1)} mm` : ''
    const number = this.plane === 'axial' ? stack.meta.numbers?.[index] : 0
    return `${mm}${number ? ` · ${this.host.words.instance} ${number}` : ''}`
  }

  /** A slice needs its own chunk, a plane across the slices all of them. */
  #arrived(stack, index) {
    if (this.plane !== 'axial' || this.host.tilt) return stack.complete
    const [low, high] = this.host.slab ? planesOf(stack, this.plane, index, this.host.slab.mm) : [index, index]
    return stack.has(low) && stack.has(index) && stack.has(high)
  }

  #wheel(event) {
    event.preventDefault()
    if (event.ctrlKey) {
      if (this.fit) this.#zoomAt(event, event.deltaY < 0 ? 1.15 : 1 / 1.15)
    } else if (Math.abs(event.deltaY) > Math.abs(event.deltaX)) this.#turn(event) // sideways is no way through a stack
  }

  /** Larger or smaller, and what lies under the pointer stays there. */
  #zoomAt(event, by) {
    const box = this.canvas.getBoundingClientRect()
    const zoom = Math.max(0.5, Math.min(12, this.zoom * by))
    const grown = zoom / this.zoom
    const off = [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2]
    this.pan = [0, 1].map((i) => off[i] - (off[i] - this.pan[i]) * grown)
    this.zoom = zoom
    this.draw()
  }

  /** Steps by how far the wheel was turned: a notch is one, and the many small turns of a trackpad add up to one. */
  #turn(event) {
    const pixels = event.deltaY * (event.deltaMode === 0 ? 1 : event.deltaMode === 1 ? NOTCH / 3 : NOTCH)
    const fresh = event.timeStamp - this.lastTurn > PAUSE_MS || pixels * this.turned < 0
    this.lastTurn = event.timeStamp
    this.turned = fresh ? pixels : this.turned + pixels
    if (fresh && Math.abs(pixels) >= NOTCH / 2) this.turned = Math.sign(pixels) * Math.max(NOTCH, Math.abs(pixels)) // a mouse with short notches
    const steps = Math.trunc(this.turned / NOTCH)
    this.turned -= steps * NOTCH
    if (steps) this.host.scroll(this.plane, steps)
  }

  #down(event) {
    this.host.active(this)
    if (!this.fit) return
    this.canvas.setPointerCapture(event.pointerId)
    const tool = event.button === 2 ? 'window' : event.button === 1 || event.shiftKey ? 'pan' : this.host.tool
    const from = this.toPixel(event)
    if (DRAWING[tool] && this.host.tilt && !DRAWING[tool].oblique) return this.host.refuse()
    this.drag = { tool, x: event.clientX, y: event.clientY, window: [...this.host.window], pan: [...this.pan], from }
    if (tool === 'navigate' || DRAWING[tool]) this.#take(event)
    if (DRAWING[tool] && !this.drag.mark) this.#begin(tool, from)
    this.#move(event)
  }

  /** A mark under the pointer is chosen, and moved with it: one of its points, or the whole. */
  #take(event) {
    if (this.making) return
    const box = this.canvas.getBoundingClientRect()
    const index = this.host.indexOf(this.plane)
    const near = this.host.marks(this.plane, index).filter((m) => !DRAWING[this.drag.tool] || this.host.chosen(m))
    const hit = struck(near, event.clientX - box.left, event.clientY - box.top, (p) => this.toScreen(p))
    if (DRAWING[this.drag.tool] && !(hit?.point >= 0)) return // a new mark may begin on the line of another one
    this.host.choose(hit?.mark ?? null)
    if (hit?.mark.id) Object.assign(this.drag, { mark: hit.mark, point: hit.point, tool: 'mark' })
  }

  /** The first point of a new mark, or the next line of one that takes more. */
  #begin(kind, from) {
    const index = this.host.indexOf(this.plane)
    if (this.making && (this.making.kind !== kind || this.making.slice !== index)) this.making = null
    this.making ??= { kind, slice: index, points: [], shape: null, turn: this.host.tilt?.key }
    if (this.making.placing) return // a click sets the point that follows the pointer
    this.making.points.push([...from])
    if (DRAWING[kind].drags) this.making.points.push([...from])
  }

  #move(event) {
    const { stack } = this.host
    if (!stack || !this.fit) return
    this.pointer = { clientX: event.clientX, clientY: event.clientY }
    if (this.making && this.making.turn !== this.host.tilt?.key) this.making = null // its points lie in another plane
    const at = this.toPixel(event)
    const voxel = this.#voxelUnder(event)
    this.host.hover(voxel, this.plane)
    const d = this.drag
    if (this.making && (d?.tool === this.making.kind || this.making.placing)) this.#follow(at)
    if (!d) return
    if (d.tool === 'window') {
      const [centre, width] = d.window
      const step = Math.max(width / 300, 1e-6)
      this.host.setWindow([centre + (event.clientY - d.y) * step, Math.max(step, width + (event.clientX - d.x) * step)])
    } else if (d.tool === 'pan') {
      this.pan = [d.pan[0] + event.clientX - d.x, d.pan[1] + event.clientY - d.y]
      this.draw()
    } else if (d.tool === 'tilt') {
      this.host.turnBy(event.clientX - d.x, event.clientY - d.y)
      Object.assign(d, { x: event.clientX, y: event.clientY })
    } else if (d.tool === 'mark') this.#carry(at)
    else if (d.tool === 'navigate') this.host.goTo(this.#exactlyUnder(event))
  }

  #figure(kind, points, text = '') {
    const found = figured(kind, points, { stack: this.host.stack, plane: this.plane, n: this.host.indexOf(this.plane), voxelAt, text })
    return found && this.host.tilt ? { ...found, turned: this.host.tilt.told() } : found
  }

  /** The last point of what is being drawn goes with the pointer. */
  #follow(at) {
    const { making } = this
    if (DRAWING[making.kind].free) this.#along(making, at)
    else {
      making.points[making.points.length - 1] = at
      making.shape = this.#figure(making.kind, making.points)
    }
    this.draw()
  }

  /** The way of the pointer; its figure comes when it is closed. */
  #along(making, at) {
    const [x, y] = this.toScreen(at)
    const [px, py] = this.toScreen(making.points.at(-1))
    if (Math.hypot(x - px, y - py) >= STEP && making.points.length < LONGEST) making.points.push(at)
    making.shape = { kind: making.kind, points: making.points, plane: this.plane, slice: making.slice, text: '' }
  }

  /** A mark that was taken goes with the pointer. */
  #carry(at) {
    const { mark, point, from } = this.drag
    const by = [at[0] - from[0], at[1] - from[1]]
    const points = mark.points.map((p, n) => (point < 0 || point === n ? [p[0] + by[0], p[1] + by[1]] : p))
    this.drag.shape = { ...mark, ...this.#figure(mark.kind, points, mark.text) }
    this.draw()
  }

  #up(event) {
    const { drag, making } = this
    this.drag = null
    if (drag?.tool === 'mark' && drag.shape && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 2) this.host.changed(drag.mark, drag.shape)
    else if (making && drag?.tool === making.kind) this.#next(making)
    this.draw()
  }

  /** A line is drawn: the mark is whole, or takes another line or point. */
  #next(making) {
    const { drags, then } = DRAWING[making.kind]
    const { points } = making
    if (DRAWING[making.kind].free ? points.length < 4 : drags && Math.hypot(points.at(-1)[0] - points.at(-2)[0], points.at(-1)[1] - points.at(-2)[1]) <= 1) {
      this.making = null // a click that drew nothing
      return
    }
    if (points.length < 2 * drags + then) {
      if (points.length < 2 * drags) return
      making.placing = true
      points.push([...points.at(-1)])
      return
    }
    this.making = null
    if (DRAWING[making.kind].free) points.shift() // it began twice in one place
    const shape = this.#figure(making.kind, points)
    if (shape) this.host.measured(shape)
  }

  /** Give up what is being drawn; false where nothing is. */
  quit() {
    if (!this.making) return false
    this.making = null
    this.draw()
    return true
  }
}
