/** A plane turned out of the directions of its stack, about the place where it was turned: where its pixels lie, and what they show. */

import { shapeOf, voxelAt } from './plane.js'
import { planesOf, sampler } from './slab.js'
import { apply, invert } from './stack.js'

const AXES = { axial: [0, 1], coronal: [0, 2], sagittal: [1, 2] } // of the stack, that run across and down the picture
const NORMAL = { axial: 2, coronal: 1, sagittal: 0 }
const LEAST = 0.3 // share of a direction that is named beside a larger one
const BLACK = 0xff000000

export class Tilt {
  /** @param {any} stack @param {string} plane @param {number[]} pivot the voxel that stays where it is */
  constructor(stack, plane, pivot) {
    this.stack = stack
    this.plane = plane
    this.pivot = pivot
    this.turned = [[1, 0, 0], [0, 1, 0], [0, 0, 1]] // in mm along the stack's own directions
    this.#fit()
  }

  /** So many degrees about the axis that runs down the picture (`across`), or across it. */
  turn(across, degrees) {
    const axis = AXES[this.plane][across ? 1 : 0]
    const [a, b] = [(axis + 1) % 3, (axis + 2) % 3]
    const [c, s] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)]
    this.turned = this.turned.map((row) => row.map((v, i) => (i === a ? v * c + row[b] * s : i === b ? row[b] * c - row[a] * s : v)))
    this.#fit()
  }

  /** The turn that a measurement was made on. @param {import('../contract.js').Turned} told */
  static of(stack, plane, told) {
    const tilt = new Tilt(stack, plane, told.pivot)
    tilt.turned = told.turned
    tilt.#fit()
    return tilt
  }

  /** How it is turned, for what was measured on it. */
  told() {
    return { pivot: [...this.pivot], turned: this.turned.map((row) => [...row]) }
  }

  #fit() {
    const { spacing } = this.stack.meta
    /** (3 × 4) from a voxel of the turned stack to one of the stack itself */
    this.to = this.turned.map((row, i) => {
      const m = row.map((v, j) => (v * spacing[j]) / spacing[i])
      return [...m, this.pivot[i] - m.reduce((sum, v, j) => sum + v * this.pivot[j], 0)]
    })
    this.back = invert(this.to)
    this.key = this.to.flat().map((v) => v.toFixed(4)).join(',')
  }

  /** Degrees between its normal and that of the plane it was. */
  get angle() {
    return angleOf(this.plane, this.turned)
  }

  /** Letters at the left, right, upper and lower edge, the larger share of a direction first. */
  edges() {
    const at = (u, v) => this.stack.toMm(apply(this.to, /** @type {any} */ (voxelAt(this.stack, this.plane, 0, u, v))))
    const [origin, right, below] = [at(0, 0), at(1, 0), at(0, 1)]
    const [across, down] = [right, below].map((p) => p.map((v, i) => v - origin[i]))
    const [left, up] = [across, down].map((d) => d.map((v) => -v))
    return [left, across, up, down].map(letters)
  }
}

/** Degrees between the normal of a plane and that of the same one turned. */
export function angleOf(plane, turned) {
  const n = NORMAL[plane]
  return (Math.acos(Math.max(-1, Math.min(1, turned[n][n]))) * 180) / Math.PI
}

function letters(way) {
  const length = Math.hypot(...way)
  const named = way.map((v, i) => [Math.abs(v) / length, v > 0 ? 'RAS'[i] : 'LPI'[i]]).filter(([share]) => share > LEAST)
  return named.sort((a, b) => b[0] - a[0]).map(([, letter]) => letter).join('')
}

/** Fill `out` with turned plane n, or the slab around it; values between voxels are interpolated. table: as of `lookup`. */
export function paintTilted(stack, plane, n, tilt, slab, table, out) {
  const { width, height } = shapeOf(stack, plane)
  const [low, high] = slab ? planesOf(stack, plane, n, slab.mm) : [n, n]
  const at = (u, v, k) => apply(tilt.to, /** @type {any} */ (voxelAt(stack, plane, k, u, v)))
  const [origin, right, below, onward] = [at(0, 0, low), at(1, 0, low), at(0, 1, low), at(0, 0, low + 1)]
  const [du, dv, dk] = [right, below, onward].map((p) => p.map((x, i) => x - origin[i]))
  const sample = sampler(stack)
  const join = { mip: Math.max, minip: Math.min, mean: (a, b) => a + b }[slab?.kind] ?? Math.max
  for (let v = 0, i = 0; v < height; v++)
    for (let u = 0; u < width; u++, i++) {
      let [value, count] = [0, 0]
      for (let k = 0; k <= high - low; k++) {
        const found = sample(origin[0] + u * du[0] + v * dv[0] + k * dk[0], origin[1] + u * du[1] + v * dv[1] + k * dk[1], origin[2] + u * du[2] + v * dv[2] + k * dk[2])
        if (found === null) continue
        value = count ? join(value, found) : found
        count += 1
      }
      out[i] = count ? table[Math.round(slab?.kind === 'mean' ? value / count : value) + 32768] : BLACK
    }
}
