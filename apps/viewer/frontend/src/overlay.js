/** What somebody drew over an image (DICOM overlay 60xx): a bit a voxel beside the pixels, shown as outlines on every plane. */

import { voxelAt } from './plane.js'

const DRAWN = '#5fe3c0'
const SIDES = [[-1, 0, 0, 0, 0, 1], [1, 0, 1, 0, 1, 1], [0, -1, 0, 0, 1, 0], [0, 1, 0, 1, 1, 1]] // a neighbour, and the edge towards it

export class Overlay {
  /** @param {import('./stack.js').Stack} stack of an image that something is drawn over */
  constructor(stack) {
    this.stack = stack
    /** @type {Uint8Array | null} */
    this.bits = null
    this.key = ''
    /** @type {number[][]} */
    this.edges = []
  }

  /** Fetch the bits once; where that fails the next drawing asks again. */
  load(arrived) {
    this.loading ??= fetch(`${this.stack.meta.url}.overlay.gz`, { cache: 'no-store' })
      .then((r) => (r.ok ? r.arrayBuffer() : Promise.reject(new Error(`HTTP ${r.status}`))))
      .then((buffer) => { this.bits = new Uint8Array(buffer); arrived() })
      .catch(() => { this.loading = null })
  }

  at(x, y, z) {
    const { nx, ny, nz } = this.stack
    if (x < 0 || y < 0 || z < 0 || x >= nx || y >= ny || z >= nz) return 0
    const bit = (z * ny + y) * nx + x
    return (this.bits[bit >> 3] >> (bit & 7)) & 1
  }

  /** Edges [u, v, u, v] of pixels between what is drawn and what is not, of plane number n. */
  outline(plane, n, { width, height }) {
    const key = `${plane} ${n}`
    if (!this.bits || key === this.key) return this.edges
    this.key = key
    this.edges = []
    const on = (u, v) => u >= 0 && v >= 0 && u < width && v < height && this.at(...voxelAt(this.stack, plane, n, u, v))
    for (let v = 0; v < height; v++) {
      for (let u = 0; u < width; u++) {
        if (!on(u, v)) continue
        for (const [du, dv, a, b, c, d] of SIDES) if (!on(u + du, v + dv)) this.edges.push([u + a, v + b, u + c, v + d])
      }
    }
    return this.edges
  }
}

/** Draw the outlines of one plane; how many edges they have. */
export function trace(context, stack, plane, n, shape, toScreen, again) {
  const { overlay } = stack
  if (!overlay) return 0
  overlay.load(again)
  const edges = overlay.outline(plane, n, shape)
  if (!overlay.bits || !edges.length) return 0
  context.strokeStyle = DRAWN
  context.lineWidth = 1.2
  context.beginPath()
  for (const [u0, v0, u1, v1] of edges) {
    context.moveTo(...toScreen([u0, v0]))
    context.lineTo(...toScreen([u1, v1]))
  }
  context.stroke()
  return edges.length
}
