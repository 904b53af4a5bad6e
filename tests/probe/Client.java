import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.config.ConfigTransformer;
import org.apache.kafka.common.config.provider.DirectoryConfigProvider;

/** Connects as MirrorMaker 2 does: the settings of one cluster in its file, with what the files of Secrets say. */
class Client {
    public static void main(String[] arguments) throws Exception {
        Properties all = new Properties();
        try (Reader reader = new InputStreamReader(new FileInputStream(arguments[0]), StandardCharsets.UTF_8)) {
            all.load(reader);
        }
        DirectoryConfigProvider provider = new DirectoryConfigProvider();
        provider.configure(Map.of("allowed.paths", all.getProperty("config.providers.directory.param.allowed.paths")));
        Map<String, String> settings = new HashMap<>();
        for (String name : all.stringPropertyNames())
            if (name.startsWith("east.")) settings.put(name.substring("east.".length()), all.getProperty(name));
        Map<String, Object> found = new HashMap<>(new ConfigTransformer(Map.of("directory", provider)).transform(settings).data());
        found.put("default.api.timeout.ms", "10000");
        found.put("request.timeout.ms", "5000");
        try (Admin admin = Admin.create(found)) {
            System.out.println(new TreeSet<>(admin.listTopics().names().get()));
        }
    }
}
