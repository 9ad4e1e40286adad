/** Several planes as one: the largest, the smallest or the mean value along each line of sight; and one series in colour on another. */

import { voxelIn } from './frames.js'
import { lookup, shapeOf, voxelAt } from './plane.js'
import { apply } from './stack.js'

export const SLABS = ['mip', 'minip', 'mean']
export const THICKNESS = [3, 5, 10, 20, 30, 50] // mm

/** First and last plane of a slab around plane n, within the stack. @returns {[number, number]} */
export function planesOf(stack, plane, n, mm) {
  const { count } = shapeOf(stack, plane)
  const [sx, sy, sz] = stack.meta.spacing
  const half = Math.floor(mm / { axial: sz, coronal: sy, sagittal: sx }[plane] / 2)
  return [Math.max(0, n - half), Math.min(count - 1, n + half)]
}

/** Where pixel (0, 0) of plane 0 lies in the data, and how far the next one across, down and onward. */
function strides({ nx, ny, nz }, plane) {
  if (plane === 'coronal') return [(nz - 1) * ny * nx, 1, -ny * nx, nx]
  if (plane === 'sagittal') return [(nz - 1) * ny * nx, nx, -ny * nx, 1]
  return [0, 1, nx, nx * ny]
}

/** Stored values of a slab (first and last plane), (width × height) as floats. */
function project(stack, plane, low, high, kind) {
  const { width, height } = shapeOf(stack, plane)
  const [start, across, down, onward] = strides(stack, plane)
  const { data } = stack
  const out = new Float32Array(width * height)
  for (let k = low; k <= high; k++)
    for (let v = 0, i = 0; v < height; v++)
      for (let u = 0, at = start + v * down + k * onward; u < width; u++, i++, at += across) {
        const value = data[at]
        if (k === low) out[i] = value
        else if (kind === 'mean') out[i] += value
        else if (kind === 'mip' ? value > out[i] : value < out[i]) out[i] = value
      }
  if (kind === 'mean') for (let i = 0; i < out.length; i++) out[i] /= high - low + 1
  return out
}

/** Fill `out` with the slab around plane n; table: as of `lookup`. */
export function paintSlab(stack, plane, n, { kind, mm }, table, out) {
  const values = project(stack, plane, ...planesOf(stack, plane, n, mm), kind)
  for (let i = 0; i < values.length; i++) out[i] = table[Math.round(values[i]) + 32768]
}

/** The value of the slab at a voxel of its middle plane, or null outside. */
export function slabValue(stack, plane, voxel, { kind, mm }) {
  const axis = { axial: 2, coronal: 1, sagittal: 0 }[plane]
  const [low, high] = planesOf(stack, plane, voxel[axis], mm)
  const found = []
  for (let k = low; k <= high; k++) {
    const at = [...voxel]
    at[axis] = k
    const value = stack.value(at[0], at[1], at[2])
    if (value === null) return null
    found.push(value)
  }
  if (kind === 'mean') return found.reduce((a, b) => a + b, 0) / found.length
  return kind === 'mip' ? Math.max(...found) : Math.min(...found)
}

/**
 * Lay another series over the plane, in its own window and colours: what is low in it stays clear. Values between its voxels are interpolated.
 * matrix: from the mm of the plane to those of the other series. tilt: of the plane, where it is turned.
 * @param {{ stack: any, window: [number, number], map: string, opacity: number, matrix: number[][] }} over
 */
export function overlay(stack, plane, n, over, out, tilt = null) {
  const { width, height } = shapeOf(stack, plane)
  const table = lookup(over.stack, over.window, over.map)
  const [centre, range] = over.window
  const { slope, intercept } = over.stack.meta
  const low = (centre - range / 2 - intercept) / slope
  const at = (u, v) => voxelIn(over.stack, stack, tilt ? apply(tilt.to, voxelAt(stack, plane, n, u, v)) : voxelAt(stack, plane, n, u, v), over.matrix)
  const [origin, right, below] = [at(0, 0), at(1, 0), at(0, 1)] // straight lines stay straight
  const sample = sampler(over.stack)
  for (let v = 0, i = 0; v < height; v++)
    for (let u = 0; u < width; u++, i++) {
      const p = [0, 1, 2].map((k) => origin[k] + u * (right[k] - origin[k]) + v * (below[k] - origin[k]))
      const value = sample(p[0], p[1], p[2])
      if (value === null) continue
      const share = Math.max(0, Math.min(1, (value - low) / (range / slope)))
      const alpha = over.opacity * Math.min(1, share * 4) // clear up to a quarter of the window, then whole
      if (alpha > 0) out[i] = mixed(out[i], table[Math.round(value) + 32768], alpha)
    }
}

function mixed(a, b, alpha) {
  const part = (shift) => Math.round(((a >> shift) & 255) * (1 - alpha) + ((b >> shift) & 255) * alpha) << shift
  return ((255 << 24) | part(16) | part(8) | part(0)) >>> 0
}

/** Stored values between voxels; null outside. */
export function sampler({ nx, ny, nz, data }) {
  return (x, y, z) => {
    if (x < -0.5 || y < -0.5 || z < -0.5 || x > nx - 0.5 || y > ny - 0.5 || z > nz - 0.5) return null
    const [cx, cy, cz] = [Math.max(0, Math.min(nx - 1, x)), Math.max(0, Math.min(ny - 1, y)), Math.max(0, Math.min(nz - 1, z))]
    const [x0, y0, z0] = [Math.floor(cx), Math.floor(cy), Math.floor(cz)]
    const [x1, y1, z1] = [Math.min(nx - 1, x0 + 1), Math.min(ny - 1, y0 + 1), Math.min(nz - 1, z0 + 1)]
    const [fx, fy, fz] = [cx - x0, cy - y0, cz - z0]
    const row = (z, y) => { const b = (z * ny + y) * nx; return data[b + x0] * (1 - fx) + data[b + x1] * fx }
    const face = (z) => row(z, y0) * (1 - fy) + row(z, y1) * fy
    return face(z0) * (1 - fz) + face(z1) * fz
  }
}

/** Where a voxel of one series lies in another one, and its value there; null where it does not. */
export function valueOn(stack, { stack: other, matrix }, voxel) {
  const [x, y, z] = voxelIn(other, stack, voxel, matrix) ?? [NaN, NaN, NaN]
  return Number.isNaN(x) ? null : other.value(Math.round(x), Math.round(y), Math.round(z))
}
