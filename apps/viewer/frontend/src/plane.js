/** One plane through a stack: which voxel lies under which pixel, and the pixels themselves. */

import { voxelIn } from './frames.js'
import { apply } from './stack.js'

export const PLANES = ['axial', 'coronal', 'sagittal']
export const EDGES = { axial: ['R', 'L', 'A', 'P'], coronal: ['R', 'L', 'S', 'I'], sagittal: ['A', 'P', 'S', 'I'] }

/** Size in pixels, mm of a pixel, and how many planes there are. */
export function shapeOf(stack, plane) {
  const { nx, ny, nz, meta } = stack
  if (meta.kind === 'cine') {
    const mm = meta.pixel_mm ?? [1, 1]
    return { width: nx, height: ny, mx: mm[0], my: mm[1], count: nz }
  }
  const [sx, sy, sz] = meta.spacing
  if (plane === 'coronal') return { width: nx, height: nz, mx: sx, my: sz, count: ny }
  if (plane === 'sagittal') return { width: ny, height: nz, mx: sy, my: sz, count: nx }
  return { width: nx, height: ny, mx: sx, my: sy, count: nz }
}

/** Pixel (u, v) of plane number n → voxel. Coronal and sagittal planes have the head at the top. */
export function voxelAt(stack, plane, n, u, v) {
  if (plane === 'coronal') return [u, n, stack.nz - 1 - v]
  if (plane === 'sagittal') return [n, u, stack.nz - 1 - v]
  return [u, v, n]
}

/** Voxel → [u, v, number of the plane]. */
export function pixelOf(stack, plane, [x, y, z]) {
  if (plane === 'coronal') return [x, stack.nz - 1 - z, y]
  if (plane === 'sagittal') return [y, stack.nz - 1 - z, x]
  return [x, y, z]
}

/**
 * Where another plane cuts this one: the ends of the line in pixels of this plane, as far as the other one's picture reaches; null where it
 * does not, or lies in it. matrix: from the mm of the other one to those of this one.
 * @param {{ stack: any, plane: string, n: number, tilt: any }} here @param {{ stack: any, plane: string, n: number, tilt: any }} other
 * @param {number[][]} matrix
 */
export function meeting(here, other, matrix) {
  const { width, height } = shapeOf(other.stack, other.plane)
  const corners = [[0, 0], [width, 0], [width, height], [0, height]].map(([u, v]) => {
    const corner = voxelAt(other.stack, other.plane, other.n, u - 0.5, v - 0.5)
    const voxel = voxelIn(here.stack, other.stack, other.tilt ? apply(other.tilt.to, corner) : corner, matrix)
    const [x, y, k] = pixelOf(here.stack, here.plane, here.tilt ? apply(here.tilt.back, voxel) : voxel)
    return [x + 0.5, y + 0.5, k - here.n]
  })
  if (corners.every((c) => Math.abs(c[2]) < 1)) return null
  const ends = corners.flatMap((a, i) => {
    const b = corners[(i + 1) % 4]
    if (a[2] < 0 === b[2] < 0) return []
    const t = a[2] / (a[2] - b[2])
    return [[a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])]]
  })
  return ends.length === 2 ? ends : null
}

const MAPS = {
  grey: [[0, 0, 0], [255, 255, 255]],
  inverted: [[255, 255, 255], [0, 0, 0]],
  hot: [[0, 0, 0], [170, 0, 0], [255, 150, 0], [255, 255, 255]],
  bone: [[0, 0, 0], [80, 82, 112], [166, 198, 198], [255, 255, 255]],
  viridis: [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]],
}
export const MAP_NAMES = Object.keys(MAPS)

/** 256 colours as RGBA words, little endian as ImageData wants them. */
function colours(name) {
  const stops = MAPS[name]
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (stops.length - 1)
    const k = Math.min(Math.floor(at), stops.length - 2)
    const [r, g, b] = [0, 1, 2].map((c) => Math.round(stops[k][c] + (stops[k + 1][c] - stops[k][c]) * (at - k)))
    return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0
  })
}

/** What every stored value looks like: 65,536 colours for a volume, 256 for ultrasound. */
export function lookup(stack, [centre, width], map) {
  const colour = colours(map)
  const { slope, intercept, kind } = stack.meta
  const low = centre - width / 2
  if (kind === 'cine') {
    return Uint32Array.from({ length: 256 }, (_, v) => colour[Math.max(0, Math.min(255, Math.trunc(((v - low) / width) * 255 + 1e-4)))])
  }
  const table = new Uint32Array(65536)
  for (let i = 0; i < 65536; i++) {
    const share = ((i - 32768) * slope + intercept - low) / width
    table[i] = colour[share <= 0 ? 0 : share >= 1 ? 255 : Math.trunc(share * 255)]
  }
  return table
}

/** Fill `out` (Uint32Array of width × height) with plane number n. */
export function paint(stack, plane, n, table, out) {
  const { nx, ny, nz, data, samples } = stack
  if (stack.meta.kind === 'cine') {
    const at = n * nx * ny * samples
    if (samples === 1) for (let i = 0; i < nx * ny; i++) out[i] = table[data[at + i]]
    else
      for (let i = 0, k = at; i < nx * ny; i++, k += 3)
        out[i] = ((255 << 24) | (data[k + 2] << 16) | (data[k + 1] << 8) | data[k]) >>> 0
  } else if (plane === 'axial') {
    const at = n * nx * ny
    for (let i = 0; i < nx * ny; i++) out[i] = table[data[at + i] + 32768]
  } else if (plane === 'coronal') {
    for (let v = 0, i = 0; v < nz; v++) {
      const at = ((nz - 1 - v) * ny + n) * nx
      for (let u = 0; u < nx; u++, i++) out[i] = table[data[at + u] + 32768]
    }
  } else {
    for (let v = 0, i = 0; v < nz; v++) {
      const at = (nz - 1 - v) * ny * nx + n
      for (let u = 0; u < ny; u++, i++) out[i] = table[data[at + u * nx] + 32768]
    }
  }
}
