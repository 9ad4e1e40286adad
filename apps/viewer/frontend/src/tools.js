/** The tools that draw: how many points each takes, how they come, and what their figure is. */

import { angle, bidirectional, cobb, distance, probe, region } from './measure.js'

/**
 * drags: lines that are drawn with the button down, one after the other. then: points that are set with a click after that.
 * free: the way of the pointer is the line, and it is closed. oblique: also on a turned plane.
 * @type {Record<string, { icon: string, drags: number, then: number, free?: boolean, oblique?: boolean, figure: Function }>}
 */
export const DRAWING = {
  distance: { icon: '↔', drags: 1, then: 0, oblique: true, figure: distance },
  bidirectional: { icon: '┼', drags: 2, then: 0, oblique: true, figure: bidirectional },
  angle: { icon: '∠', drags: 1, then: 1, oblique: true, figure: angle },
  cobb: { icon: '∥', drags: 2, then: 0, oblique: true, figure: cobb },
  roi: { icon: '◯', drags: 1, then: 0, figure: region },
  rectangle: { icon: '▭', drags: 1, then: 0, figure: region },
  freehand: { icon: '∽', drags: 1, then: 0, free: true, figure: region },
  arrow: { icon: '↗', drags: 1, then: 0, figure: () => ({ text: '' }) },
  probe: { icon: '·', drags: 0, then: 1, figure: probe },
}
const HANDLE = 8 // pixels around a point that take it
const NEAR = 6 // pixels around a line

/** The mark of these points with its figure, or null where it has none (a region outside of the image). */
export function figured(kind, points, { stack, plane, n, voxelAt, text = '' }) {
  const found = DRAWING[kind].figure({ kind, points, stack, plane, n, voxelAt })
  return found && { kind, points, plane, slice: n, ...found, text: kind === 'arrow' ? text : found.text }
}

/** Lines of a mark between its points, as pairs of their numbers. */
export function linesOf(mark) {
  if (mark.kind === 'bidirectional' || mark.kind === 'cobb') return [[0, 1], [2, 3]].filter(([, b]) => b < mark.points.length)
  const along = mark.points.slice(1).map((_, i) => [i, i + 1])
  return mark.kind === 'freehand' ? [...along, [mark.points.length - 1, 0]] : along
}

/**
 * What of the marks lies at this place of the screen: the mark, and the number of its point or -1 for the whole of it.
 * @returns {{ mark: any, point: number } | null}
 */
export function struck(marks, x, y, toScreen) {
  const on = marks.map((mark) => ({ mark, at: mark.points.map(toScreen) }))
  for (const { mark, at } of on) {
    const point = at.findIndex(([a, b]) => Math.hypot(a - x, b - y) <= HANDLE)
    if (point >= 0) return { mark, point: DRAWING[mark.kind]?.free ? -1 : point } // a line by hand is moved as a whole
  }
  for (const { mark, at } of on) if (mark.kind === 'roi' || mark.kind === 'rectangle' ? onEdge(mark.kind, at, x, y) : linesOf(mark).some(([i, j]) => fromLine(at[i], at[j], x, y) <= NEAR)) return { mark, point: -1 }
  return null
}

function fromLine([ax, ay], [bx, by], x, y) {
  const [dx, dy] = [bx - ax, by - ay]
  const t = Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)))
  return Math.hypot(ax + t * dx - x, ay + t * dy - y)
}

function onEdge(kind, [[x0, y0], [x1, y1]], x, y) {
  const [cx, cy, rx, ry] = [(x0 + x1) / 2, (y0 + y1) / 2, Math.abs(x1 - x0) / 2, Math.abs(y1 - y0) / 2]
  if (kind === 'roi') return Math.abs(Math.hypot((x - cx) / (rx || 1), (y - cy) / (ry || 1)) - 1) * Math.min(rx, ry) <= NEAR
  const inside = Math.abs(x - cx) <= rx + NEAR && Math.abs(y - cy) <= ry + NEAR
  return inside && (Math.abs(Math.abs(x - cx) - rx) <= NEAR || Math.abs(Math.abs(y - cy) - ry) <= NEAR)
}

/** Draw one mark; a chosen one with its points to take. */
export function sketch(context, mark, toScreen, write, chosen) {
  const at = mark.points.map(toScreen)
  if (!at.length) return
  const colour = chosen ? '#fff36b' : '#7CFC9A'
  context.strokeStyle = context.fillStyle = colour
  context.lineWidth = 1.6
  context.beginPath()
  if (mark.kind === 'roi' && at.length > 1) context.ellipse((at[0][0] + at[1][0]) / 2, (at[0][1] + at[1][1]) / 2, Math.abs(at[1][0] - at[0][0]) / 2, Math.abs(at[1][1] - at[0][1]) / 2, 0, 0, 2 * Math.PI)
  else if (mark.kind === 'rectangle' && at.length > 1) context.rect(at[0][0], at[0][1], at[1][0] - at[0][0], at[1][1] - at[0][1])
  else if (at.length === 1) for (const [x, y] of [[6, 0], [0, 6]]) { context.moveTo(at[0][0] - x, at[0][1] - y); context.lineTo(at[0][0] + x, at[0][1] + y) }
  for (const [i, j] of mark.kind === 'roi' || mark.kind === 'rectangle' ? [] : linesOf(mark)) { context.moveTo(...at[i]); context.lineTo(...at[j]) }
  context.stroke()
  if (mark.kind === 'arrow' && at.length > 1) head(context, at[0], at[1])
  if (chosen && !DRAWING[mark.kind]?.free) for (const [x, y] of at) context.strokeRect(x - 3, y - 3, 6, 6)
  const right = at.reduce((a, b) => (b[0] > a[0] ? b : a))
  write(context, mark.text ?? '', mark.kind === 'arrow' ? at[0][0] + 6 : right[0] + 6, mark.kind === 'arrow' ? at[0][1] : right[1], { colour, align: 'left', within: context.canvas.clientWidth })
}

function head(context, [ax, ay], [bx, by]) {
  const turn = Math.atan2(by - ay, bx - ax)
  context.beginPath()
  context.moveTo(bx, by)
  for (const side of [2.7, -2.7]) context.lineTo(bx + 12 * Math.cos(turn + side), by + 12 * Math.sin(turn + side))
  context.fill()
}
