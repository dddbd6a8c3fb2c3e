"""What the page says, in English and Chinese. `{}` stands for what is filled in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..modalities import Modality

# Where the page runs, as a visitor sees it: on the visitor's own machine, on another one, or on a Space of the Hub.
Place = Literal["here", "server", "space"]


@dataclass(frozen=True)
class Words:
    """Every text of the page in one language; the names of the fields say where each stands."""

    language: str  # BCP 47
    own_name: str  # what the link to the page in this language says
    title: str
    shows: str  # model, collection, rows
    files_go: Mapping[Place, str]
    modalities: Mapping[Modality, str]
    one_of: Mapping[Modality, str]
    unreadable_rows: str

    search: str
    query: str
    query_hint: str
    find: str
    drop_picture: str
    read_as: str
    automatic: str
    among: str
    only_labels: str
    all_labels: str
    count: str
    results_for: str
    results_like: str
    nothing_found: str
    ask_first: str
    more_like_this: str
    uploaded: str

    classify: str
    drop_to_classify: str
    labels: str
    labels_hint: str
    probability: str
    cosine: str
    classify_again: str
    take_a_scene: str
    no_picture_yet: str
    no_labels: str
    unknown_words: str
    probability_note: str
    none_of_these: str
    calibrated_note: str
    cannot_classify: str
    cannot_read_words: str

    convert: str
    drop_checkpoint: str
    checkpoint_hint: str
    inspected: str
    nothing_ran: str
    classes_named: str
    no_weights: str
    weights: str
    which_weights: str
    family: str
    unknown_family: str
    tensors: str
    parameters: str
    size: str
    other_states: str
    metadata: str
    convert_it: str
    no_checkpoint_yet: str
    converted: str
    parity: str
    output: str
    difference: str
    allowed: str
    notes: str
    options_note: str
    report: str
    download: str
    download_hint: str

    explore: str
    map_of: str
    map_hint: str
    map_name: str
    some_points: str

    failed: str


ENGLISH = Words(
    language="en",
    own_name="English",
    title="Any encoder, tried in a browser",
    shows="{model} · {data} · {rows}",
    files_go={
        "here": "Your files stay on this machine: they are read here, kept in a temporary folder and removed.",
        "server": "Your files go to the machine that runs this page, into a temporary folder, and are removed.",
        "space": "This page is a Hugging Face Space: your files go there, into a temporary folder, and are removed.",
    },
    modalities={"image": "images", "depth": "depth maps", "text": "texts"},
    one_of={"image": "image", "depth": "depth map", "text": "text"},
    unreadable_rows="Rows that could not be read, and are left out: {}.",
    search="Search",
    query="What are you looking for?",
    query_hint="a green teddy bear",
    find="Search",
    drop_picture="Or drop an image or a depth map",
    read_as="Read the file as",
    automatic="what it looks like",
    among="Search among",
    only_labels="Only these labels",
    all_labels="all",
    count="Results",
    results_for="Results for “{}”",
    results_like="Most like {}",
    nothing_found="Nothing has these labels.",
    ask_first="Type some words, or drop a file.",
    more_like_this="More like this",
    uploaded="Your file",
    classify="Classify",
    drop_to_classify="Drop an image or a depth map",
    labels="Labels, with commas between them",
    labels_hint="chair, table, lamp",
    probability="probability",
    cosine="cosine",
    classify_again="Classify",
    take_a_scene="Take a scene of the collection",
    no_picture_yet="Drop an image or a depth map first.",
    no_labels="Type at least one label.",
    unknown_words="The model knows none of the words of: {}",
    probability_note="Probabilities are shared among these labels: one is always best, even if none is right.",
    none_of_these="Probably none of these.",
    calibrated_note="Probabilities are shared among these labels; a calibrated score judges whether any is right.",
    cannot_classify="This model cannot classify by words: it does not embed both texts and pictures.",
    cannot_read_words="This model embeds no texts: search by a file, or by a click on a picture.",
    convert="Convert",
    drop_checkpoint="Drop a checkpoint of any kind",
    checkpoint_hint=".pth, .pt, .ckpt, .bin, .safetensors and others. Nothing in the file is executed.",
    inspected="What is in {}",
    nothing_ran="Nothing in the file was executed, and none of these classes was imported.",
    classes_named="Classes that the file names",
    no_weights="It holds no weights.",
    weights="Weights",
    which_weights="Weights to take",
    family="Family",
    unknown_family="none that is known",
    tensors="Tensors",
    parameters="Parameters",
    size="Size",
    other_states="States of the training",
    metadata="Metadata",
    convert_it="Convert to a repo",
    no_checkpoint_yet="Drop a checkpoint first.",
    converted="{source} → {architecture}, {parameters} parameters in {dtype}",
    parity="The repo against the legacy network",
    output="Output",
    difference="Largest difference",
    allowed="Allowed",
    notes="Notes",
    options_note="Options that begin with -- are those of hf-encoders convert.",
    report="The whole report",
    download="Download {name} ({size})",
    download_hint="The file is removed after an hour, and when the page is closed down.",
    explore="Explore",
    map_of="Map of",
    map_hint="Near means alike. Point at a scene to see it; click it to find more like it. Keys: Tab, arrows, Enter.",
    map_name="Map of {count} {modality}, coloured by label",
    some_points="{shown} of {all} are shown.",
    failed="That did not work:",
)

CHINESE = Words(
    language="zh",
    own_name="中文",
    title="在浏览器里试用任意编码器",
    shows="{model} · {data} · {rows}",
    files_go={
        "here": "您的文件不会离开本机：在本机读取，存放在临时文件夹中，随后删除。",
        "server": "您的文件会上传到运行本页的机器，存放在临时文件夹中，随后删除。",
        "space": "本页运行在 Hugging Face Space 上：您的文件会上传到那里，存放在临时文件夹中，随后删除。",
    },
    modalities={"image": "图像", "depth": "深度图", "text": "文本"},
    one_of={"image": "图像", "depth": "深度图", "text": "文本"},
    unreadable_rows="无法读取而略去的行数：{}。",
    search="搜索",
    query="您要找什么？（模型认识的语言）",
    query_hint="a green teddy bear",
    find="搜索",
    drop_picture="或拖入一张图像或深度图",
    read_as="文件当作",
    automatic="自动判断",
    among="搜索范围",
    only_labels="只看这些标签",
    all_labels="全部",
    count="结果数",
    results_for="“{}”的搜索结果",
    results_like="与{}最相似",
    nothing_found="没有符合这些标签的内容。",
    ask_first="请输入文字，或拖入文件。",
    more_like_this="找相似",
    uploaded="您的文件",
    classify="分类",
    drop_to_classify="拖入一张图像或深度图",
    labels="标签，用逗号分隔",
    labels_hint="chair, table, lamp",
    probability="概率",
    cosine="余弦",
    classify_again="分类",
    take_a_scene="取一个场景",
    no_picture_yet="请先拖入一张图像或深度图。",
    no_labels="请至少输入一个标签。",
    unknown_words="模型不认识这些词：{}",
    probability_note="概率只在这些标签之间分配：即使没有一个正确，也总有一个最高。",
    none_of_these="很可能都不是。",
    calibrated_note="概率只在这些标签之间分配。是否有一个正确，由校准过的分数判断。",
    cannot_classify="该模型不能用文字分类：它没有同时编码文本和图片。",
    cannot_read_words="该模型不编码文本：请用文件搜索，或点击一张图片。",
    convert="转换",
    drop_checkpoint="拖入任意检查点文件",
    checkpoint_hint=".pth、.pt、.ckpt、.bin、.safetensors 等。文件中的任何代码都不会被执行。",
    inspected="{} 的内容",
    nothing_ran="文件中的任何代码都没有被执行，下列类也没有被导入。",
    classes_named="文件中提到的类",
    no_weights="其中没有权重。",
    weights="权重",
    which_weights="要取用的权重",
    family="网络族",
    unknown_family="未知",
    tensors="张量数",
    parameters="参数量",
    size="大小",
    other_states="训练状态",
    metadata="元数据",
    convert_it="转换为仓库",
    no_checkpoint_yet="请先拖入一个检查点文件。",
    converted="{source} → {architecture}，{parameters} 个参数，{dtype}",
    parity="仓库与旧网络的数值对照",
    output="输出",
    difference="最大差异",
    allowed="允许值",
    notes="说明",
    options_note="以 -- 开头的选项属于 hf-encoders convert 命令。",
    report="完整报告",
    download="下载 {name}（{size}）",
    download_hint="该文件一小时后删除，服务关闭时也会删除。",
    explore="浏览",
    map_of="分布图",
    map_hint="距离近表示相似。指向一点可看到场景，点击可找到相似的内容。键盘：Tab、方向键、Enter。",
    map_name="{count} 个{modality}的分布图，按标签着色",
    some_points="共 {all} 个，显示 {shown} 个。",
    failed="没有成功：",
)

LANGUAGES: Mapping[str, Words] = {words.language: words for words in (ENGLISH, CHINESE)}


def best_language(accepted: str) -> Words:
    """The language for a browser, by its `Accept-Language`, such as "zh-CN,zh;q=0.9,en;q=0.8"; English if unclear."""
    wanted = []
    for entry in accepted.split(","):
        name, _, quality = entry.partition(";q=")
        try:
            wanted.append((-float(quality or 1), name.strip().lower().partition("-")[0]))
        except ValueError:
            continue
    return next((LANGUAGES[name] for _, name in sorted(wanted, key=lambda one: one[0]) if name in LANGUAGES), ENGLISH)
