/** One image in memory: slices or frames that arrive in chunks, with their original values. */

import { Overlay } from './overlay.js'

export class Stack {
  /**
   * A volume holds int16 at [z][y][x], x to the patient's left, y to the back, z upward.
   * @param {import('../contract.js').VolumeImage | import('../contract.js').CineImage} meta
   */
  constructor(meta) {
    this.meta = meta
    this.nx = meta.shape[0]
    this.ny = meta.shape[1]
    this.nz = meta.shape[2]
    this.samples = meta.kind === 'cine' && meta.rgb ? 3 : 1
    const size = this.nx * this.ny * this.nz * this.samples
    this.data = meta.kind === 'cine' ? new Uint8Array(size) : new Int16Array(size)
    this.ready = new Uint8Array(meta.chunks)
    this.version = 0 // grows with every chunk, so that whoever draws knows
    this.bytes = 0
    this.affine = meta.kind === 'volume' ? meta.affine : null
    this.inverse = this.affine ? invert(this.affine) : null
    this.overlay = meta.drawn ? new Overlay(this) : null
  }

  get complete() {
    return this.ready.every((v) => v === 1)
  }

  has(slice) {
    return this.ready[Math.floor(slice / this.meta.per_chunk)] === 1
  }

  /** Fetch every chunk once, the one that holds `first` before the others. */
  load(first, arrived, failed) {
    this.loading ??= this.#fetchAll(first, arrived, failed)
    return this.loading
  }

  async #fetchAll(first, arrived, failed) {
    const home = Math.floor(first / this.meta.per_chunk)
    const order = [...Array(this.meta.chunks).keys()].sort((a, b) => Math.abs(a - home) - Math.abs(b - home))
    const one = async () => {
      for (let k = order.shift(); k !== undefined; k = order.shift()) {
        const response = await fetch(`${this.meta.url}.${k}.gz`, { cache: 'no-store' })
        if (!response.ok) throw new Error(`HTTP ${response.status}`)
        const buffer = await response.arrayBuffer()
        this.bytes += buffer.byteLength
        const at = k * this.meta.per_chunk * this.nx * this.ny * this.samples
        this.data.set(this.meta.kind === 'cine' ? new Uint8Array(buffer) : new Int16Array(buffer), at)
        this.ready[k] = 1
        this.version += 1
        arrived(k)
      }
    }
    try {
      await Promise.all([one(), one(), one()])
    } catch (problem) {
      this.loading = null // asked for again, this starts over
      failed(problem)
    }
  }

  /** The original value at a voxel (HU for CT), or null outside. Cine: grey level of the first sample. */
  value(x, y, z) {
    if (x < 0 || y < 0 || z < 0 || x >= this.nx || y >= this.ny || z >= this.nz || !this.has(z)) return null
    const raw = this.data[((z * this.ny + y) * this.nx + x) * this.samples]
    return this.meta.kind === 'cine' ? raw : raw * this.meta.slope + this.meta.intercept
  }

  /** Voxel → RAS+ mm in the image's frame of reference, or null where the geometry is not known. */
  toMm(voxel) {
    return this.affine && apply(this.affine, voxel)
  }

  toVoxel(mm) {
    return this.inverse && apply(this.inverse, mm)
  }
}

/** @param {any} m (3 or 4 × 4) @param {number[]} voxel @returns {number[]} */
export function apply(m, [x, y, z]) {
  return [0, 1, 2].map((r) => m[r][0] * x + m[r][1] * y + m[r][2] * z + m[r][3])
}

export function invert(m) {
  const [[a, b, c, tx], [d, e, f, ty], [g, i, j, tz]] = m
  const det = a * (e * j - f * i) - b * (d * j - f * g) + c * (d * i - e * g)
  const r = [
    [(e * j - f * i) / det, (c * i - b * j) / det, (b * f - c * e) / det],
    [(f * g - d * j) / det, (a * j - c * g) / det, (c * d - a * f) / det],
    [(d * i - e * g) / det, (b * g - a * i) / det, (a * e - b * d) / det],
  ]
  return r.map((row) => [...row, -(row[0] * tx + row[1] * ty + row[2] * tz)])
}
