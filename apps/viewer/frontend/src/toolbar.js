/** The row of tools above the images. */

import { dated } from './corners.js'
import { choose, h } from './dom.js'
import { icon } from './icons.js'
import { away } from './together.js'
import { DRAWING } from './tools.js'

export const TOOLS = { navigate: '✛', window: '◐', pan: '✥', tilt: '⤡', ...Object.fromEntries(Object.entries(DRAWING).map(([k, v]) => [k, v.icon])) }
export const SHAPES = ['outline', 'filled', 'box'] // of evidence
export const GRIDS = ['1×1', '1×2', '2×1', '2×2', '1×3', '3×1', '2×3', '3×2', '3×3']

/** @param {import('./reader.js').Reader} reader */
export function toolbar(reader) {
  const { words, data } = reader
  const hint = (name, label) => (data.keys[name] ? `${label} (${shown(data.keys[name], words)})` : label)
  const press = (name, sign, label, on = null, more = label) => h('button', { class: on ? 'on' : '', 'aria-label': label, 'aria-pressed': on === null ? null : String(on), title: hint(name, more), 'data-action': name, onclick: () => reader.act(name) }, sign)
  const tool = (name) => h('button', { class: reader.tool === name ? 'on' : '', 'aria-label': words.tools[name], 'aria-pressed': String(reader.tool === name), 'data-tool': name, title: hint(name, words.tools[name]), onclick: () => reader.act(name) }, TOOLS[name])
  const absent = Object.entries(data.states).filter(([m, s]) => !data.images.some((i) => i.modality === m) && s.state !== 'present')
  return [
    h('span', { class: 'group', role: 'group', 'aria-label': words.tool_group }, Object.keys(TOOLS).map(tool)),
    h('span', { class: 'group' }, press('undo', '↶', words.undo), press('redo', '↷', words.redo), press('key_image', '⚑', words.key_image)),
    h('span', { class: 'group' },
      choose(words.hang, data.hangings.map((x, n) => [n, x.title]), reader.hangingAt, (n) => reader.hang(Number(n))),
      choose(words.grid, [...(GRIDS.includes(reader.gridName) ? [] : [[reader.gridName, reader.gridName]]), ...GRIDS.map((g) => [g, g])], reader.gridName, (g) => reader.setGrid(...g.split('×').map(Number))),
      data.may_save && press('save', '★', words.save_hanging),
      press('one', '▣', words.one, reader.single),
      press('link', icon('link'), words.link, reader.linked, words.link_hint),
      data.prior_date && press('prior', words.prior, words.prior, data.prior_open, words.prior_hint.replace('{date}', dated(data.prior_date)))),
    h('span', { class: 'group' }, press('evidence', '⬚', words.evidence, reader.evidence),
      reader.places.some((p) => p.runs?.length) && choose(words.evidence_shape, SHAPES.map((s) => [s, words.evidence_shapes[s]]), reader.shape, (s) => { reader.shape = s; reader.draw() }),
      h('input', { type: 'range', min: 0.1, max: 1, step: 0.1, value: String(reader.opacity), title: words.opacity, 'aria-label': words.opacity, oninput: (e) => { reader.opacity = Number(e.target.value); reader.draw() } }),
      (data.images.some((i) => i.drawn) || data.presented?.some((s) => s.marks.length) || Boolean(data.structures?.length)) && press('overlay', '▱', words.overlay, reader.overlays, words.overlay_hint),
      press('crosshair', icon('crosshair'), words.crosshair, reader.crosshairOn), press('reference', icon('reference'), words.reference, reader.referenceOn, words.reference_hint), press('flip', icon('flip'), words.flip, reader.flipped, words.flip_hint),
      press('rotate', icon('rotate'), words.rotate), press('invert', icon('invert'), words.invert),
      press('second', icon('second'), words.second, away(), words.second_hint), press('tags', '☰', words.tags), press('full', icon('full'), words.full), press('reset', '⟲', words.reset), press('help', '?', words.keys_title)),
    absent.length > 0 && h('span', { class: 'group absent' }, absent.map(([m, s]) => h('span', { class: `badge ${s.state}`, title: s.why || (s.state === 'failed' ? words.unreadable : words.not_acquired) }, `${m} ${words.states[s.state]}`))),
  ].filter(Boolean)
}

/** A key as it is written on keyboards. */
export function shown(key, words) {
  return { ' ': words.space, ArrowUp: '↑', ArrowDown: '↓', ArrowLeft: '←', ArrowRight: '→' }[key] ?? key
}
