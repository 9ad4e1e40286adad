/** What stands in the corners of a viewport, as a PACS has it: whose image, of when, which slice, which window. */

import { write } from './ink.js'

const LEAST = 150 // pixels of width and height under which only the ID is written
const LINE = 14

/** Left: name, ID, sex, age, birth. Right: window, date, series. */
export function corners(context, host, width, height) {
  const { whose, meta, words } = host
  const room = width >= LEAST && height >= LEAST
  const person = [whose.sex, whose.age, dated(whose.birth_date)].filter(Boolean).join(' ')
  const left = [...new Set([whose.name, whose.patient_id])].filter(Boolean)
  const date = meta.prior || meta.date || whose.study_date // of its own study: a case holds several
  const [centre, width_] = host.window
  const right = [meta.kind === 'volume' && `L ${round(centre)} W ${round(width_)}`, `${meta.prior ? `${words.prior} ` : ''}${dated(date)}`, whose.description, meta.title]
  const most = width * 0.47
  const lines = (texts, x, align, colour) => texts.filter(Boolean).forEach((t, n) => write(context, shortened(context, String(t), most), x, 13 + LINE * n, { align, size: 12, colour }))
  lines(room ? [...left, person] : left.slice(-1), 8, 'left', undefined)
  lines(room ? right : right.slice(0, 2), width - 8, 'right', meta.prior ? '#ffd479' : undefined)
}

function shortened(context, text, most) {
  context.font = '600 12px system-ui, sans-serif'
  if (context.measureText(text).width <= most) return text
  let n = text.length
  while (n > 1 && context.measureText(`${text.slice(0, n)}…`).width > most) n -= 1
  return `${text.slice(0, n)}…`
}

/** 20240614 as 2024-06-14; anything else as it is. */
export function dated(text) {
  return /^\d{8}$/.test(text) ? `${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6)}` : text
}

function round(v) {
  return Math.abs(v) >= 10 ? Math.round(v) : v.toFixed(2)
}
