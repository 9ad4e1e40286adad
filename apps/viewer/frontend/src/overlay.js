/** What somebody drew over an image (DICOM overlay 60xx): a bit a voxel beside the pixels, shown as outlines on every plane. */

import { traced } from './outline.js'
import { voxelAt } from './plane.js'
import { apply } from './stack.js'

const DRAWN = '#5fe3c0'

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
  outline(plane, n, { width, height }, tilt = null) {
    const key = `${plane} ${n} ${tilt?.key}`
    if (!this.bits || key === this.key) return this.edges
    this.key = key
    const on = (u, v) => u >= 0 && v >= 0 && u < width && v < height && this.at(...under(tilt, voxelAt(this.stack, plane, n, u, v)))
    this.edges = traced(on, [0, 0, width, height]).edges
    return this.edges
  }
}

/** The voxel of the stack under one of a turned plane. */
function under(tilt, voxel) {
  return tilt ? apply(tilt.to, voxel).map(Math.round) : voxel
}

/** Draw the outlines of one plane; how many edges they have. */
export function trace(context, { stack, tilt }, plane, n, shape, toScreen, again) {
  const { overlay } = stack
  if (!overlay) return 0
  overlay.load(again)
  const edges = overlay.outline(plane, n, shape, tilt)
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
