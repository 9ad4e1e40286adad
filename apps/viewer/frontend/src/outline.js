/** What was outlined on a series, as voxels of a box: shown as a line or filled, on every plane of each series that lies with it. */

export class Outline {
  /** @param {import('../contract.js').LesionBox} place with its runs */
  constructor({ box: [low, high], runs }) {
    this.low = low
    this.size = high.map((v, i) => v - low[i] + 1)
    this.bits = new Uint8Array(this.size[0] * this.size[1] * this.size[2])
    let at = 0
    runs.forEach((n, i) => { if (i % 2) this.bits.fill(1, at, at + n); at += n })
  }

  has(voxel) {
    const [x, y, z] = voxel.map((v, i) => Math.round(v) - this.low[i])
    const [nx, ny, nz] = this.size
    return x >= 0 && y >= 0 && z >= 0 && x < nx && y < ny && z < nz && this.bits[(z * ny + y) * nx + x] === 1
  }
}

const SIDES = [[-1, 0, 0, 0, 0, 1], [1, 0, 1, 0, 1, 1], [0, -1, 0, 0, 1, 0], [0, 1, 0, 1, 1, 1]] // a neighbour, and the edge towards it

/**
 * Lines [u, v, u, v] between pixels that are `on` and others, and the pixels themselves as rows [u, v, length].
 * @param {(u: number, v: number) => boolean | number} on @param {any} part first and last column and row
 */
export function traced(on, [u0, v0, u1, v1]) {
  /** @type {number[][]} */
  const edges = []
  /** @type {number[][]} */
  const rows = []
  for (let v = v0; v < v1; v++) {
    for (let u = u0; u < u1; u++) {
      if (!on(u, v)) continue
      const last = rows.at(-1)
      if (last && last[1] === v && last[0] + last[2] === u) last[2] += 1
      else rows.push([u, v, 1])
      for (const [du, dv, a, b, c, d] of SIDES) if (!on(u + du, v + dv)) edges.push([u + a, v + b, u + c, v + d])
    }
  }
  return { edges, rows }
}

/** Draw what was traced: its line, and filled where that is wanted. */
export function ink(context, { edges, rows }, toScreen, filled) {
  const alpha = context.globalAlpha
  if (filled) {
    context.globalAlpha = alpha * 0.4
    context.beginPath()
    for (const [u, v, n] of rows) {
      const [[ax, ay], [bx, by]] = [toScreen([u, v]), toScreen([u + n, v + 1])]
      context.rect(Math.min(ax, bx), Math.min(ay, by), Math.abs(bx - ax), Math.abs(by - ay))
    }
    context.fill()
    context.globalAlpha = alpha
  }
  context.beginPath()
  for (const [u0, v0, u1, v1] of edges) {
    context.moveTo(...toScreen([u0, v0]))
    context.lineTo(...toScreen([u1, v1]))
  }
  context.stroke()
}

/**
 * Where a label stands beside its lesion and on no lesion or label: above, below, to the right, to the left; where nothing is free, above.
 * @param {any} own left, top, right, bottom of the lesion @param {number[][]} taken others of that form @param {number} wide of the label
 */
export function free(own, taken, wide, { width, height }) {
  const [left, top, right, bottom] = own
  /** @type {[number, number][]} */
  const places = [[left, top - 11], [left, bottom + 11], [right + 6, (top + bottom) / 2], [left - wide - 6, (top + bottom) / 2]]
  const box = ([x, y]) => [x, y - 8, x + wide, y + 8]
  const fits = (/** @type {any} */ [x0, y0, x1, y1]) => x0 >= 0 && y0 >= 44 && x1 <= width && y1 <= height - 36 && !taken.some(([a, b, c, d]) => x0 < c && x1 > a && y0 < d && y1 > b)
  const [x, y] = places.find((p) => fits(box(p))) ?? places[0]
  return { x, y, box: box([x, y]) }
}
