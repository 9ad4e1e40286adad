/** Distances and regions: what was drawn, in units that the image can give. */

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

/** {kind, value, unit, text} of two points in pixels. */
export function distance(stack, points, plane) {
  const mm = calibration(stack, points, plane) ?? null
  const [du, dv] = [points[1][0] - points[0][0], points[1][1] - points[0][1]]
  const value = mm ? Math.hypot(du * mm[0], dv * mm[1]) : Math.hypot(du, dv)
  const unit = mm ? 'mm' : 'px'
  return { kind: 'distance', value, unit, text: `${value.toFixed(1)} ${unit}` }
}

/** The ellipse in the rectangle of two points: mean, standard deviation and area of the original values. */
export function ellipse(stack, points, plane, n, voxelAt) {
  const mm = calibration(stack, points, plane)
  const [[u0, v0], [u1, v1]] = points
  const [cu, cv, ru, rv] = [(u0 + u1) / 2, (v0 + v1) / 2, Math.abs(u1 - u0) / 2, Math.abs(v1 - v0) / 2]
  let [count, sum, squares] = [0, 0, 0]
  for (let v = Math.floor(cv - rv); v <= cv + rv; v++)
    for (let u = Math.floor(cu - ru); u <= cu + ru; u++) {
      if (((u + 0.5 - cu) / ru) ** 2 + ((v + 0.5 - cv) / rv) ** 2 > 1) continue
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
  const [unit, square] = [stack.meta.unit, mm ? 'mm²' : 'px²']
  const text = `${mean.toFixed(1)} ± ${sd.toFixed(1)}${unit ? ' ' + unit : ''} · ${area.toFixed(0)} ${square}`
  return { kind: 'roi', value: mean, sd, area, unit, area_unit: mm ? 'mm2' : 'px2', pixels: count, text }
}
