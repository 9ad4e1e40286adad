/** A region that somebody else outlined (SEG, structure set, label map): a bit a voxel of its box, fetched when it is first drawn. */

export class Structure {
  /** @param {import('../contract.js').DrawnStructure} meta */
  constructor(meta) {
    this.low = meta.box[0]
    this.size = meta.box[1].map((v, i) => v - meta.box[0][i] + 1)
    this.name = meta.bits
    /** @type {Uint8Array | null} */
    this.bits = null
  }

  /** Fetch the bits once; where that fails the next drawing asks again. url: of its image. */
  load(url, arrived) {
    this.loading ??= fetch(`${url}.${this.name}.gz`, { cache: 'no-store' })
      .then((r) => (r.ok ? r.arrayBuffer() : Promise.reject(new Error(`HTTP ${r.status}`))))
      .then((buffer) => { this.bits = new Uint8Array(buffer); arrived() })
      .catch(() => { this.loading = null })
  }

  has(voxel) {
    const [x, y, z] = voxel.map((v, i) => Math.round(v) - this.low[i])
    const [nx, ny, nz] = this.size
    if (x < 0 || y < 0 || z < 0 || x >= nx || y >= ny || z >= nz) return false
    const bit = (z * ny + y) * nx + x
    return ((this.bits[bit >> 3] >> (bit & 7)) & 1) === 1
  }
}
