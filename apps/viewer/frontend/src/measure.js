/** Lengths, angles, regions and values: what was drawn, in units that the image can give. */

/** Millimetres of one pixel at these points, or null: ultrasound has them only inside one calibrated region. */
export function calibration(stack, points, plane) {
  const { meta } = stack
  if (meta.kind === 'volume') {
    if (!meta.exact) return null
    const [sx, sy, sz] = meta.spacing
    return plane === 'coronal' ? [sx, sz] : plane === 'sagittal' ? [sy, sz] : [sx, sy]
  }
  const inside = ([u, v], [x0, y0, x1, y1]) => u >= x0 && u <= x1 + 1 && v >= y0 && v <= y1 + 1
  const region = meta.regions.find((r) => points.every((p) => inside(p, r.box)))
  return region ? region.mm : null
}

/** Vector from a to b and its length, in mm where the image can give them. */
function between(mm, a, b) {
  const [x, y] = [(b[0] - a[0]) * (mm ? mm[0] : 1), (b[1] - a[1]) * (mm ? mm[1] : 1)]
  return { x, y, length: Math.hypot(x, y) }
}

/** The length of a line. */
export function distance({ stack, points, plane }) {
  const mm = calibration(stack, points, plane) ?? null
  const value = between(mm, points[0], points[1]).length
  const unit = mm ? 'mm' : 'px'
  return { value, unit, text: `${value.toFixed(1)} ${unit}` }
}

/** The longer and the shorter of two lines; the short one is missing while it is not drawn. */
export function bidirectional({ stack, points, plane }) {
  const mm = calibration(stack, points, plane) ?? null
  const unit = mm ? 'mm' : 'px'
  const [a, b] = [between(mm, points[0], points[1]).length, points.length > 3 ? between(mm, points[2], points[3]).length : 0]
  const [value, short] = [Math.max(a, b), Math.min(a, b)]
  return { value, short, unit, text: `${value.toFixed(1)} × ${short.toFixed(1)} ${unit}` }
}

/** The angle at the middle one of three points. Pixels that are not square need their size: it is the same in x and y where unknown. */
export function angle({ stack, points, plane }) {
  if (points.length < 3) return { value: 0, text: '' }
  const mm = calibration(stack, points, plane) ?? null
  const value = turn(between(mm, points[1], points[0]), between(mm, points[1], points[2]))
  return { value, text: `${value.toFixed(1)}°` }
}

/** The smaller angle between two lines. */
export function cobb({ stack, points, plane }) {
  if (points.length < 4) return { value: 0, text: '' }
  const mm = calibration(stack, points, plane) ?? null
  const wide = turn(between(mm, points[0], points[1]), between(mm, points[2], points[3]))
  const value = Math.min(wide, 180 - wide)
  return { value, text: `${value.toFixed(1)}°` }
}

function turn(a, b) {
  const cosine = (a.x * b.x + a.y * b.y) / (a.length * b.length || 1)
  return (Math.acos(Math.max(-1, Math.min(1, cosine))) * 180) / Math.PI
}

/** The original value under one point. */
export function probe({ stack, points, plane, n, voxelAt }) {
  const value = stack.value(...voxelAt(stack, plane, n, Math.floor(points[0][0]), Math.floor(points[0][1])))
  const unit = stack.meta.unit ?? ''
  return value === null ? null : { value, unit, text: `${Number.isInteger(value) ? value : value.toFixed(2)} ${unit}`.trim() }
}

/** Whether a place lies inside a line that is closed, by how often a ray from it crosses the line. */
function inside(points, u, v) {
  let within = false
  points.forEach(([ax, ay], i) => {
    const [bx, by] = points[(i + 1) % points.length]
    if (ay > v !== by > v && u < ((bx - ax) * (v - ay)) / (by - ay) + ax) within = !within
  })
  return within
}

/** The ellipse or rectangle of two points, or what a line encloses: mean, standard deviation and area of the original values. */
export function region({ kind, stack, points, plane, n, voxelAt }) {
  const mm = calibration(stack, points, plane)
  const [us, vs] = [points.map((p) => p[0]), points.map((p) => p[1])]
  const [u0, v0, u1, v1] = [Math.min(...us), Math.min(...vs), Math.max(...us), Math.max(...vs)]
  const [cu, cv, ru, rv] = [(u0 + u1) / 2, (v0 + v1) / 2, Math.abs(u1 - u0) / 2, Math.abs(v1 - v0) / 2]
  const outside = (u, v) => (kind === 'freehand' ? !inside(points, u + 0.5, v + 0.5) : kind === 'roi' ? ((u + 0.5 - cu) / ru) ** 2 + ((v + 0.5 - cv) / rv) ** 2 > 1 : Math.abs(u + 0.5 - cu) > ru || Math.abs(v + 0.5 - cv) > rv)
  let [count, sum, squares] = [0, 0, 0]
  for (let v = Math.floor(cv - rv); v <= cv + rv; v++)
    for (let u = Math.floor(cu - ru); u <= cu + ru; u++) {
      if (outside(u, v)) continue
      const value = stack.value(...voxelAt(stack, plane, n, u, v))
      if (value === null) continue
      count += 1
      sum += value
      squares += value * value
    }
  if (!count) return null
  const mean = sum / count
  const sd = Math.sqrt(Math.max(0, squares / count - mean * mean))
  const area = mm ? count * mm[0] * mm[1] : count
  const [unit, square] = [stack.meta.unit ?? '', mm ? 'mm²' : 'px²']
  const text = `${mean.toFixed(1)} ± ${sd.toFixed(1)}${unit ? ' ' + unit : ''} · ${area.toFixed(0)} ${square}`
  return { value: mean, sd, area, unit, area_unit: mm ? 'mm2' : 'px2', pixels: count, text }
}
