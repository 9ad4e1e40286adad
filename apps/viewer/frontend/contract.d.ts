// Written by `python -m apps.viewer.typedefs` from medfuse/display/contract.py. Do not edit.

/** The angle between two lines that meet; ``value`` is in degrees.  points: an end, where the lines meet, the other end. */
export interface Angle {
  id?: number
  author?: string
  made?: string
  image: number
  series_uid?: string
  plane: "axial" | "coronal" | "sagittal"
  slice: number
  text: string
  turned?: Turned | null
  kind: "angle"
  points: [[number, number], [number, number], [number, number]]
  value: number
}

/** An arrow with words; its text is them.  points: its end, and where it points to. */
export interface Arrow {
  id?: number
  author?: string
  made?: string
  image: number
  series_uid?: string
  plane: "axial" | "coronal" | "sagittal"
  slice: number
  text: string
  kind: "arrow"
  points: [[number, number], [number, number]]
}

/** From the browser: something was asked for that needs no words, such as the earlier study. */
export interface Asked {
  serial: number
}

/** The longest diameter of a lesion and the one across it; ``value`` is the longer.  points: ends of the long one, then of the short one. short: the shorter. unit: as of a distance. */
export interface Bidirectional {
  id?: number
  author?: string
  made?: string
  image: number
  series_uid?: string
  plane: "axial" | "coronal" | "sagittal"
  slice: number
  text: string
  turned?: Turned | null
  kind: "bidirectional"
  points: [[number, number], [number, number], [number, number], [number, number]]
  value: number
  short: number
  unit: "mm" | "px"
}

/** ``case.json`` beside the pixels of a case.  files: of each image, the names in the store: one a slice or frame as displayed, or one for all. instances: by SOP Instance UID its image and slice as displayed, -1 where one file holds them all. stored: of each image, the SOP Instance UID of each slice or frame as stored, and its frame in that file, from 1. structures: what others outlined. unplaced: by the id of an object with outlines, why some are not shown. */
export interface CaseImages {
  case_id: string
  patient_id: string
  images: (VolumeImage | CineImage)[]
  refused: RefusedFile[]
  states: Record<string, string>
  files?: string[][]
  instances?: Record<string, [number, number]>
  stored?: [string, number][][]
  structures?: DrawnStructure[]
  unplaced?: Record<string, string>
}

/** One viewport of a grid.  modality: of its series, empty where it stays empty. role: wanted, such as portal; any where empty. nth: which of the series that fit, from 0. plane: one of them, or mpr for three and a rendering. window: name of a preset; the first where empty. prior: of the earlier study. */
export interface Cell {
  modality?: string
  role?: string
  nth?: number
  plane?: "axial" | "coronal" | "sagittal" | "mpr"
  window?: string
  prior?: boolean
}

/** A section as the reader left it. */
export interface ChangedSection {
  id: string
  sentences: Sentence[]
}

/** A place that a sentence rests on.  label: short. title: in full. */
export interface Chip {
  label: string
  title: string
  place: Spot
}

/** uint8 frames, grey or RGB.  rgb: three channels. frame_ms: duration of a frame. pixel_mm: size of a pixel where the whole frame has one. regions: the calibrated parts. */
export interface CineImage {
  index: number
  modality: string
  role: string
  title: string
  series_uid: string
  frame_of_reference: string
  simulated: boolean
  warnings: string[]
  url?: string
  shape: [number, number, number]
  per_chunk: number
  chunks: number
  presets: Record<string, [number, number]>
  thumb?: [number, number]
  study_uid?: string
  date?: string
  prior?: string
  drawn?: boolean
  kind: "cine"
  rgb: boolean
  frame_ms: number | null
  pixel_mm: [number, number] | null
  regions: UltrasoundRegion[]
}

/** The angle between two lines that need not meet, such as of two endplates; ``value`` is in degrees.  points: ends of the first line, then of the second. */
export interface Cobb {
  id?: number
  author?: string
  made?: string
  image: number
  series_uid?: string
  plane: "axial" | "coronal" | "sagittal"
  slice: number
  text: string
  turned?: Turned | null
  kind: "cobb"
  points: [[number, number], [number, number], [number, number], [number, number]]
  value: number
}

/** A straight line between two points; ``value`` is its length, in pixels where their size is unknown.  points: its ends. unit: mm, or px where the pixel size is not known. */
export interface Distance {
  id?: number
  author?: string
  made?: string
  image: number
  series_uid?: string
  plane: "axial" | "coronal" | "sagittal"
  slice: number
  text: string
  turned?: Turned | null
  kind: "distance"
  points: [[number, number], [number, number]]
  value: number
  unit: "mm" | "px"
}

/** Something that was drawn.  serial: its number, which grows; a repetition has the same one. act: whether it is new, or the one of its id is changed or taken away. measurement: what was drawn. */
export interface Drawing {
  serial: number
  act?: "add" | "change" | "remove"
  measurement: Distance | Bidirectional | Angle | Cobb | Region | Rectangle | Freehand | Arrow | Probe | KeyView
}

/** A mark of a presentation state (`StateMark`) on a plane of an image as displayed.  kind, text, align, filled, colour: as in it. points, anchor: pixels of the plane, (0, 0) at the outer corner of the first. shutter: it hides what lies outside of it, as long as its state is shown. plane: on which the stored slices are seen. slices: numbers of the planes that it is drawn on. */
export interface DrawnMark {
  kind: "points" | "line" | "curve" | "circle" | "ellipse" | "runs" | "text"
  points: [number, number][]
  text: string
  align: string
  anchor: [number, number] | null
  filled: boolean
  shutter: boolean
  colour: string
  image: number
  plane: "axial" | "coronal" | "sagittal"
  slices: number[]
}

/** A presentation state over the images of a case.  marks: in the order of its layers. view: how it shows the first of its images that is here. */
export interface DrawnState {
  id: string
  marks: DrawnMark[]
  view: StateView | null
}

/** A region that somebody else outlined in a file that came with the case: never the model's evidence.  name: as its author wrote it. of: the id of the object that holds it. bits: the name of a bit for each voxel of the box, across first, then down, then onward, the lowest of a byte first, at ``URL.BITS.gz`` of its image. ml: its volume, where the image has a size in mm. colour: "#rrggbb". */
export interface DrawnStructure {
  id: string
  image: number
  centre: [number, number, number]
  box: [[number, number, number], [number, number, number]]
  box_mm: number[][] | null
  name: string
  of: string
  bits: string
  ml: number | null
  colour: string
}

/** One finding with its calibrated probability and what each modality added to it.  said: in words. assessed: whether the images can show it. contribution: of each modality. interval: 90 %, see the prediction. place: where it shows. hint: why nothing was said. */
export interface FindingLine {
  id: string
  name: string
  probability: number
  said: string
  assessed: boolean
  interval: [number, number] | null
  contribution: Record<string, number>
  place: Spot | null
  hint: string
}

/** To the browser: the table of findings and lesions.  findings, lesions: the lines of the table. */
export interface FindingsData {
  findings: FindingLine[]
  lesions: LesionLine[]
  colours: Record<string, string>
  words: Record<string, any>
}

/** A registration that a person accepted.  source, target: UIDs of the two frames of reference. matrix: (4, 4), RAS+ mm of the source to RAS+ mm of the target. by: who accepted it. */
export interface FrameLink {
  source: string
  target: string
  matrix: [[number, number, number, number], [number, number, number, number], [number, number, number, number], [number, number, number, number]]
  by?: string
}

/** What a line encloses that was drawn by hand.  points: along the line; the last is joined to the first. */
export interface Freehand {
  id?: number
  author?: string
  made?: string
  image: number
  series_uid?: string
  plane: "axial" | "coronal" | "sagittal"
  slice: number
  text: string
  value: number
  sd?: number | null
  unit: string
  area: number
  area_unit: "mm2" | "px2"
  pixels?: number | null
  kind: "freehand"
  points: [number, number][]
}

/** A grid of viewports and what stands in each.  name: of the protocol. title: in the reader's language. rows, columns: of the grid; 0 leaves both to the window's form. cells: row by row; empty: one for each modality. */
export interface Hanging {
  name: string
  title?: string
  rows?: number
  columns?: number
  cells?: Cell[]
}

/** From the browser: how this person wants studies of this kind from now on.  hanging: the grid as it stands. */
export interface Hung {
  serial: number
  hanging: Hanging
}

/** A slice that a reader chose as a key image.  points: none. window: its centre and width. */
export interface KeyView {
  id?: number
  author?: string
  made?: string
  image: number
  series_uid?: string
  plane: "axial" | "coronal" | "sagittal"
  slice: number
  text: string
  kind: "key"
  points?: any[]
  window: [number, number]
}

/** From the browser: which keys this person wants.  keys: by what they do; empty for those of the house. */
export interface Keyed {
  serial: number
  keys: Record<string, string>
}

/** A lesion to outline, or to draw a box around.  label: what stands beside it. runs: how many voxels of the box, across first, then down, then onward, lie outside of it, then inside, then outside, and so on; empty where only the box is known. lesion: always true, which tells it from other places. */
export interface LesionBox {
  id: string
  image: number
  centre: [number, number, number]
  box: [[number, number, number], [number, number, number]]
  box_mm: number[][] | null
  label: string
  runs?: number[]
  lesion?: true
}

/** One lesion as the table shows it.  said: in words. size: with its unit. where: side, slice or frame. */
export interface LesionLine {
  id: string
  name: string
  said: string
  size: string
  where: string
  place: Spot
}

/** One structure of an object with outlines.  name: as its author wrote it. said: of what size, and on which image. colour: of its outline. place: where it is largest in the middle. */
export interface ListedStructure {
  id: string
  name: string
  said: string
  colour: string
  place: Spot
}

/** From the browser: what was drawn and is not answered yet. It is sent again until ``ReaderData.taken`` says that it arrived: a page that is being drawn anew may lose a message.  drawings: oldest first. */
export interface Measured {
  drawings: Drawing[]
}

/** How a modality stands in this case, and why. */
export interface ModalityState {
  state: string
  why: string
}

/** Where something is. mm and box_mm are RAS+ in ``frame_of_reference``; pixels (x, y) in ultrasound frames.  slice or frame counts from 0 along the image's own stack. image: index among the case's images. centre_mm, box_mm: middle, and first and last corner. slice, frame: number in the image's own stack, from 0. box_voxels: first and last voxel. */
export interface Place {
  image: number
  series_uid?: string
  frame_of_reference?: string
  centre_mm?: number[] | null
  box_mm?: number[][] | null
  slice?: number | null
  frame?: number | null
  box_voxels?: number[][] | null
}

/** The original value at one point.  points: the one. unit: of the value: HU for CT, empty where values have none. */
export interface Probe {
  id?: number
  author?: string
  made?: string
  image: number
  series_uid?: string
  plane: "axial" | "coronal" | "sagittal"
  slice: number
  text: string
  kind: "probe"
  points: [[number, number]]
  value: number
  unit: string
}

/** To the browser: the images of a case and what is drawn on them.  states: by modality. places: the lesions to draw. measurements: what readers drew, those included that arrived since. whose: for the corners. earlier: whose the images of the earlier study are, which stand after those of the study. prior_date: of the earlier study in the library, empty without one. prior_open: it is shown. hangings: what can be hung, the first of which is. may_save: a hanging, and keys. keys: by what they do. heard: the serial of the newest message that arrived, by event. tags: the header that is open. windows: this person's own (centre, width), by modality and name. presented: what presentation states draw on the images. structures: what others outlined on them. links: frames of reference that accepted registrations bring onto each other. */
export interface ReaderData {
  case_id: string
  case_key: string
  images: (VolumeImage | CineImage)[]
  modalities: string[]
  states: Record<string, ModalityState>
  places: LesionBox[]
  measurements: (Distance | Bidirectional | Angle | Cobb | Region | Rectangle | Freehand | Arrow | Probe | KeyView)[]
  taken?: number
  whose: WhoseImages
  earlier?: WhoseImages | null
  prior_date?: string
  prior_open?: boolean
  hangings?: Hanging[]
  may_save?: boolean
  keys?: Record<string, string>
  heard?: Record<string, number>
  tags?: ShownTags | null
  windows?: Record<string, Record<string, [number, number]>>
  presented?: DrawnState[]
  structures?: DrawnStructure[]
  links?: FrameLink[]
  words: Record<string, any>
}

/** A rectangle.  points: two opposite corners. */
export interface Rectangle {
  id?: number
  author?: string
  made?: string
  image: number
  series_uid?: string
  plane: "axial" | "coronal" | "sagittal"
  slice: number
  text: string
  value: number
  sd?: number | null
  unit: string
  area: number
  area_unit: "mm2" | "px2"
  pixels?: number | null
  kind: "rectangle"
  points: [[number, number], [number, number]]
}

/** To the browser: what of a case refers to its images.  objects: a line each. words: of the buttons. */
export interface ReferredData {
  objects: ReferredLine[]
  words?: Record<string, any>
}

/** One presentation state, key object selection, or object with outlines.  name: what it is. said: its title, words, window and marks. places: the images that it refers to. draws: it draws something that can be switched off. shows: it can be shown as its author saw it. structures: what it outlines, each with a switch of its own. */
export interface ReferredLine {
  id: string
  name: string
  said: string
  places: Chip[]
  draws?: boolean
  shows?: boolean
  structures?: ListedStructure[]
}

/** A file or series that could not be read. */
export interface RefusedFile {
  path: string
  reason: string
  modality: string
}

/** The ellipse in a rectangle.  points: two opposite corners of it. */
export interface Region {
  id?: number
  author?: string
  made?: string
  image: number
  series_uid?: string
  plane: "axial" | "coronal" | "sagittal"
  slice: number
  text: string
  value: number
  sd?: number | null
  unit: string
  area: number
  area_unit: "mm2" | "px2"
  pixels?: number | null
  kind: "roi"
  points: [[number, number], [number, number]]
}

/** From the browser: the report as the reader left it, on top of ``revision``. */
export interface ReportChange {
  revision: number
  serial: number
  sections: ChangedSection[]
}

/** To the browser: the report to work on.  heard: the serial of the newest message that arrived, by event. may_edit: whether the person may. pending: words in the middle of an edit. macros: texts by the name that is typed for them; [x] in one is a field. keys: by what they do. */
export interface ReportData {
  revision: number
  sections: ShownSection[]
  may_edit: boolean
  heard: Record<string, number>
  pending: Typing | null
  words: Record<string, any>
  macros?: Record<string, string>
  keys?: Record<string, string>
}

/** One sentence with its reason.  finding: empty for sentences that name none (technique, notices). modality: those that the sentence rests on. evidence: the places. assertion: what the sentence says of its finding. state: what a reader decided. claims: ids of all the claims it puts into words, the first of which is of ``finding``. */
export interface Sentence {
  text: string
  finding?: string
  probability?: number | null
  modality?: string[]
  evidence?: Place[]
  assertion?: "present" | "possible" | "absent" | "not_assessed" | "notice"
  state?: "drafted" | "accepted" | "edited" | "rejected"
  claims?: string[]
}

/** A section of the report with its sentences. */
export interface ShownSection {
  id: string
  title: string
  sentences: ShownSentence[]
}

/** A sentence of the report with its places.  finding: empty where the sentence names none. chips: the places to jump to. assertion, state: as in the report. */
export interface ShownSentence {
  text: string
  finding: string
  probability: number | null
  modality: string[]
  evidence: Place[]
  assertion: "present" | "possible" | "absent" | "not_assessed" | "notice"
  state: "drafted" | "accepted" | "edited" | "rejected"
  claims?: string[]
  chips: Chip[]
}

/** One element of a header as text.  depth: of the sequences that it lies in. tag: such as (0010,0020), empty for an item of a sequence. name: as the standard calls it. vr: how its value is coded. value: on one line. */
export interface ShownTag {
  depth: number
  tag: string
  name: string
  vr: string
  value: string
}

/** The header of a slice; without lines where the image came as no DICOM file.  image, slice: that were asked for. lines: the elements in their order. left: how many there are beyond those. problem: why it cannot be read. */
export interface ShownTags {
  image: number
  slice: number
  lines?: ShownTag[]
  left?: number
  problem?: string
}

/** Where to jump: the middle of a box, its first and last voxel, and in mm where the image has a place.  centre: the middle. box: first and last voxel. box_mm: the same in RAS+ mm. */
export interface Spot {
  id: string
  image: number
  centre: [number, number, number]
  box: [[number, number, number], [number, number, number]]
  box_mm: number[][] | null
}

/** How a presentation state shows the first of its images that is here.  slice, plane: where it is seen. corners: of the part that it shows, in pixels of the plane. window: where it sets one. turn: quarter turns clockwise; None where it also shows the image as in a mirror, which is not done. inverted: bright is low. */
export interface StateView {
  image: number
  plane: "axial" | "coronal" | "sagittal"
  slice: number
  corners: [[number, number], [number, number]] | null
  window: [number, number] | null
  turn: number | null
  inverted: boolean
}

/** From the browser: the header of a slice is wanted.  image: index among those shown; none where the header is put away. slice: as displayed. */
export interface TagsAsked {
  serial: number
  image?: number | null
  slice?: number
}

/** How a plane is turned out of the directions of its stack.  pivot: the voxel as displayed that stays where it is. turned: (3, 3) rotation, in mm along the stack's directions, from the turned stack to the stack itself. */
export interface Turned {
  pivot: [number, number, number]
  turned: [[number, number, number], [number, number, number], [number, number, number]]
}

/** From the browser: words in the middle of an edit, or (``text`` null) that it was given up.  section, sentence: which one, from 0. */
export interface Typing {
  text: string | null
  section?: number | null
  sentence?: number | null
  revision?: number | null
}

/** A calibrated part of an ultrasound frame: first and last pixel (x0, y0, x1, y1), mm of a pixel.  box: pixels. mm: across and down. */
export interface UltrasoundRegion {
  box: [number, number, number, number]
  mm: [number, number]
}

/** int16 voxels. slope, intercept: the original value is slope × voxel + intercept. */
export interface VolumeImage {
  index: number
  modality: string
  role: string
  title: string
  series_uid: string
  frame_of_reference: string
  simulated: boolean
  warnings: string[]
  url?: string
  shape: [number, number, number]
  per_chunk: number
  chunks: number
  presets: Record<string, [number, number]>
  thumb?: [number, number]
  study_uid?: string
  date?: string
  prior?: string
  drawn?: boolean
  kind: "volume"
  slope: number
  intercept: number
  unit: string
  spacing: [number, number, number]
  to_view: number[][]
  affine: number[][] | null
  numbers?: number[]
  exact: boolean
}

/** Whose images these are, for the corners of each viewport; empty where the headers do not say.  name: the patient's. sex: as in the headers. age: in words. birth_date, study_date: YYYYMMDD. accession: the number of the request. description: of the study. */
export interface WhoseImages {
  patient_id: string
  name?: string
  sex?: string
  age?: string
  birth_date?: string
  study_date?: string
  accession?: string
  description?: string
}

/** From the browser: a window that this person keeps for a modality, or (none) drops.  name: of it. window: centre and width, in the unit of the modality. */
export interface Windowed {
  serial: number
  modality: string
  name: string
  window?: [number, number] | null
}
