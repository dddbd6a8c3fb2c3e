// node embed.mjs REPO '["a text", ...]' '["picture.png", ...]' → one JSON object with the embeddings of both.
// A repo with two towers has a program of each; one with a text tower alone is a pipeline of features.
import path from 'node:path';
import { AutoImageProcessor, AutoModel, AutoTokenizer, RawImage, env, pipeline } from '@huggingface/transformers';

const [folder, texts, pictures] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = path.dirname(folder);
const repo = path.basename(folder);
const found = {};

if (pictures) {
    const tokenizer = await AutoTokenizer.from_pretrained(repo);
    const processor = await AutoImageProcessor.from_pretrained(repo);
    const tokens = tokenizer(JSON.parse(texts), { padding: true, truncation: true });
    const pixels = await processor(await Promise.all(JSON.parse(pictures).map((file) => RawImage.read(file))));
    for (const dtype of ['fp32', 'q8']) {
        const text = await AutoModel.from_pretrained(repo, { model_file_name: 'text_model', dtype });
        const vision = await AutoModel.from_pretrained(repo, { model_file_name: 'vision_model', dtype });
        found[`text_${dtype}`] = (await text(tokens)).text_embeds.tolist();
        found[`image_${dtype}`] = (await vision(pixels)).image_embeds.tolist();
    }
} else {
    const extract = await pipeline('feature-extraction', repo, { dtype: 'fp32' });
    found.text_fp32 = (await extract(JSON.parse(texts), { pooling: 'mean', normalize: false })).tolist();
}
console.log(JSON.stringify(found));
