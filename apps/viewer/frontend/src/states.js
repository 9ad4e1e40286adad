/** Presentation states: what they draw on the images that they refer to, and how they show them. */

import { bus } from './dom.js'
import { write } from './ink.js'
import { say, second, send } from './together.js'

const INK = '#ffd166' // where a state names no colour
const LINE = 16 // pixels of the screen from one line of words to the next
const hidden = new Set() // states, and outlines of others, that are not drawn
const applied = new Set() // states whose shutters are closed, as one shows them

export const isDrawn = (id) => !hidden.has(id)
export const isShown = (id) => applied.has(id)

/** Draw the marks of a state, or no longer. */
export function toggle(id) {
  if (!hidden.delete(id)) hidden.add(id)
  changed()
}

/** Here, and in the window with the images where this one is beside it. */
function changed() {
  say('states')
  if (second) send('images', 'drawn', { hidden: [...hidden], applied: [...applied] })
}

bus.addEventListener('drawn', (e) => {
  const { detail } = /** @type {CustomEvent} */ (e)
  for (const [set, ids] of [[hidden, detail.hidden], [applied, detail.applied]]) { set.clear(); ids.forEach((id) => set.add(id)) }
  say('states')
})

/** Show the first of its images as a state does, or no longer. One of them at a time. */
export function show(id) {
  const on = !applied.has(id)
  applied.clear()
  if (on) applied.add(id)
  changed()
  say('state', { id, on })
}

/** Call when marks come or go; until the returned function is called. */
export function watch(changed) {
  bus.addEventListener('states', changed)
  return () => bus.removeEventListener('states', changed)
}

/** @param {import('../contract.js').DrawnState[]} states @returns {import('../contract.js').DrawnMark[]} shutters first */
export function marksOn(states, image, plane, slice) {
  const all = states.flatMap((s) => s.marks.filter((m) => (m.shutter ? applied.has(s.id) : !hidden.has(s.id))))
  const here = all.filter((m) => m.image === image && m.plane === plane && m.slices.includes(slice))
  return [...here.filter((m) => m.shutter), ...here.filter((m) => !m.shutter)]
}

/** Draw them; what was drawn, in words for those who test. */
export function drawStates(context, marks, toScreen, [width, height]) {
  for (const m of marks) {
    context.strokeStyle = context.fillStyle = m.colour || INK
    context.lineWidth = 1.6
    if (m.kind === 'text') words(context, m, toScreen, width)
    else figure(context, m, toScreen, width, height)
  }
  return marks.map((m) => (m.shutter ? `shutter ${m.kind}` : m.kind)).join(',')
}

function figure(context, m, toScreen, width, height) {
  context.beginPath()
  const closes = m.shutter && m.kind !== 'runs'
  if (closes) context.rect(0, 0, width, height) // everything but the shape
  const at = m.points.map(toScreen)
  if (m.kind === 'points') for (const [x, y] of at) for (const [dx, dy] of [[6, 0], [0, 6]]) path(context, [[x - dx, y - dy], [x + dx, y + dy]])
  else if (m.kind === 'line') path(context, at)
  else if (m.kind === 'curve') curve(context, at)
  else if (m.kind === 'runs') for (let i = 0; i + 1 < at.length; i += 2) path(context, [at[i], toScreen([m.points[i + 1][0], m.points[i][1]]), at[i + 1], toScreen([m.points[i][0], m.points[i + 1][1]])])
  else path(context, oval(m).map(toScreen))
  if (closes) context.fill('evenodd')
  else if (m.filled) context.fill()
  if (!m.shutter && m.kind !== 'runs') context.stroke()
}

function path(context, at) {
  at.forEach(([x, y], n) => (n ? context.lineTo(x, y) : context.moveTo(x, y)))
}

/** Through all points: between two of them a Bézier curve along their neighbours. */
function curve(context, at) {
  context.moveTo(...at[0])
  for (let i = 0; i + 1 < at.length; i++) {
    const [p, q, r, s] = [at[i - 1] ?? at[i], at[i], at[i + 1], at[i + 2] ?? at[i + 1]]
    context.bezierCurveTo(q[0] + (r[0] - p[0]) / 6, q[1] + (r[1] - p[1]) / 6, r[0] - (s[0] - q[0]) / 6, r[1] - (s[1] - q[1]) / 6, ...r)
  }
}

/** A circle (centre, a place on it) or an ellipse (ends of both axes) as a line of many corners, in pixels of the image. */
function oval({ kind, points: [a, b, c, d] }) {
  const radius = Math.hypot(b[0] - a[0], b[1] - a[1])
  const centre = kind === 'circle' ? a : [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]
  const [p, q] = kind === 'circle' ? [[radius, 0], [0, radius]] : [half(a, b), half(c, d)]
  return Array.from({ length: 73 }, (_, n) => [0, 1].map((i) => centre[i] + p[i] * Math.cos((n * Math.PI) / 36) + q[i] * Math.sin((n * Math.PI) / 36)))
}

function half(a, b) {
  return [(b[0] - a[0]) / 2, (b[1] - a[1]) / 2]
}

function words(context, m, toScreen, width) {
  const box = m.points.map(toScreen)
  const [left, right] = [Math.min(...box.map((p) => p[0])), Math.max(...box.map((p) => p[0]))]
  const top = Math.min(...box.map((p) => p[1]))
  const lines = m.text.split('\n')
  const x = { left, center: (left + right) / 2, right }[m.align]
  if (m.anchor) {
    const [ax, ay] = toScreen(m.anchor)
    const bottom = Math.max(...box.map((p) => p[1]))
    context.beginPath()
    path(context, [[Math.max(left, Math.min(right, ax)), Math.max(top, Math.min(bottom, ay))], [ax, ay]])
    context.stroke()
  }
  lines.forEach((line, n) => write(context, line, x, top + LINE / 2 + n * LINE, { colour: m.colour || INK, align: m.align, within: m.align === 'left' ? width : 0 }))
}

/**
 * The first image of a state as it shows it: window, turn, part and grey; or the plain one again.
 * @param {import('./reader.js').Reader} reader
 */
export function present(reader, { id, on }) {
  const view = reader.data.presented.find((s) => s.id === id)?.view
  if (!view) return
  reader.show({ image: view.image, plane: view.plane, slice: view.slice })
  const pane = reader.current
  reader.flipped = false
  pane.turn = on ? view.turn ?? pane.turn : 0
  if (on && view.window) pane.setWindow([...view.window])
  if (pane.map === 'inverted' !== (on && view.inverted)) pane.invert()
  pane.viewports.forEach((v) => { v.reset(); v.part = on && v.plane === view.plane ? view.corners : null })
  reader.draw()
}
